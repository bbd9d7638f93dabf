"""The compiled extension is the one that was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pumlc

ROOT = Path(__file__).parents[1]
OPS = ["pu_loss", "pu_loss_backward", "pu_moments", "pu_probability_sums", "pu_finish"]
OPS += ["attention_pool", "attention_pool_backward", "attention_pool_backward_"]
OPS += ["gated_broadcast_add", "gated_broadcast_add_backward"]
OPS += ["depthwise", "depthwise_backward", "mixup_consistency", "elementwise_loss", "large_loss"]


def test_build_info():
    info = pumlc.build_info()
    assert info["torch"] == torch.__version__
    assert info["cpu_instruction_set"] in ("baseline", "avx2", "avx512")
    assert (info["cuda_architectures"] is not None) == info["cuda"]


@pytest.mark.skipif("PUMLC_CUDA" not in os.environ, reason="PUMLC_CUDA does not say what was built")
def test_cuda_was_built_where_asked_for():
    assert pumlc.build_info()["cuda"] == (os.environ["PUMLC_CUDA"] == "1") or os.environ["PUMLC_CUDA"] == "auto"


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_kernels(op: str):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"pumlc::{op}", "CPU")
    has_cuda = torch._C._dispatch_has_kernel_for_dispatch_key(f"pumlc::{op}", "CUDA")
    assert has_cuda == pumlc.build_info()["cuda"]


def test_a_wrong_choice_of_build_is_named():
    environment = {**os.environ, "PUMLC_CUDA": "yes"}
    run = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "PUMLC_CUDA: got 'yes', wanted auto, 0 or 1" in run.stderr
