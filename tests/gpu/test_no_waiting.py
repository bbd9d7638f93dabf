"""The host never waits for the device in a step of the real trainer, nor between two batches of the loader."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.train_step import random_batch
from pumlc.engine.distributed import World, choose_device
from pumlc.engine.presets import PRESETS
from pumlc.engine.trainer import Trainer

aten = torch.ops.aten
READ_BACKS = {aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default}
"""Operators whose result the host has to know: on a GPU it would wait for it."""

WARM_UP, STEPS = 2, 3


class NoReadBack(TorchDispatchMode):
    """On a CPU nothing waits: there, what would wait on a GPU is an error."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function in READ_BACKS:
            raise RuntimeError(f"{function} waits for the device")
        return function(*arguments, **(keywords or {}))


@contextlib.contextmanager
def waiting_is_an_error(device: torch.device) -> Iterator[None]:
    if device.type == "cpu":
        with NoReadBack():
            yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


MILE = {"method": "mile", "mile_k1": 3, "mile_k2": 1, "mile_sample": True}  # the teacher comes and goes in these steps


@pytest.fixture(params=[{}, {"clip_norm": 1.0}, {"mixup": 1.0}, MILE], ids=["plain", "clipping", "mixup", "mile"])
def trainer(request: pytest.FixtureRequest, picture_table: Path, tmp_path: Path, device: torch.device) -> Trainer:
    """A run of five steps per epoch."""
    config = dataclasses.replace(
        PRESETS["csv"].config,
        data=str(picture_table),
        out=str(tmp_path / "run"),
        backbone="test_resnet",
        image_size=32,
        batch_size=5,
        threads=1,
        **request.param,
    )
    trainer = Trainer(config, World(choose_device(device.type)))
    trainer.wrapped.train()
    return trainer


def test_a_step_waits_for_nothing(trainer, device):
    batch = random_batch(trainer)
    for _ in range(WARM_UP):
        trainer.train_step(batch, 0)
    with waiting_is_an_error(device):
        for _ in range(STEPS):
            trainer.train_step(batch, 0)
    assert trainer.step == WARM_UP + STEPS
    assert math.isfinite(trainer.monitor.read().loss)


def test_neither_does_the_next_batch(trainer, device):
    with contextlib.closing(trainer.loader.epoch(0)) as batches:
        for _ in range(WARM_UP):
            trainer.train_step(next(batches), 0)
        with waiting_is_an_error(device):
            for _ in range(STEPS):
                trainer.train_step(next(batches), 0)
    assert trainer.step == WARM_UP + STEPS


@pytest.mark.parametrize("wait", [torch.Tensor.item, bool, torch.nonzero], ids=["item", "bool", "nonzero"])
def test_waiting_is_seen(wait, device):
    tensor = torch.ones((), device=device)
    with waiting_is_an_error(device), pytest.raises(RuntimeError):
        wait(tensor)
    wait(tensor)
