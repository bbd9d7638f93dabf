"""Which number format is chosen where."""

from __future__ import annotations

import pytest
import torch

from pumlc.engine.precision import choose_precision
from pumlc.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512", "name"), [(True, True, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_auto_on_a_cpu(monkeypatch, amx, avx512, name):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_precision("auto", CPU).name == name


def test_autocast_block():
    product = torch.ones(2, 2)
    with choose_precision("bf16", CPU).autocast():
        assert (product @ product).dtype == torch.bfloat16
    with choose_precision("fp32", CPU).autocast():
        assert (product @ product).dtype == torch.float32


def test_fp16_needs_a_gpu():
    with pytest.raises(InputError, match="--precision fp16 needs a GPU"):
        choose_precision("fp16", CPU)
