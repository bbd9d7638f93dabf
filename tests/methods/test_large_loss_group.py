"""LL-R and LL-Ct over a process group: two processes that share a batch are one process with all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from pumlc.engine.distributed import World, process_group
from pumlc.methods.large_loss import LargeLoss

RANKS, BATCH, CLASSES, FEATURES = 2, 6, 5, 7
EPOCH, DELTA_REL = 3, 7.0  # 13 of 60 losses are large


def results(model: nn.Module, rows: slice, mode: str, group=None) -> tuple[torch.Tensor, ...]:
    """Loss and gradients of a linear model on some rows of the batch."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(RANKS * BATCH, FEATURES, generator=generator)
    images[:BATCH] *= 4  # most of the large losses are of the first process
    labels = torch.randint(-1, 2, (RANKS * BATCH, CLASSES), generator=generator, dtype=torch.int8)
    batch = SimpleNamespace(images=images[rows], labels=labels[rows], index=torch.arange(RANKS * BATCH)[rows])
    loss = LargeLoss(mode, DELTA_REL, group)(model, batch, EPOCH).loss
    model.zero_grad()
    loss.backward()
    return loss.detach(), *(parameter.grad for parameter in model.parameters())


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    with process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS):
        model = World(torch.device("cpu"), rank, RANKS).wrap(make_model())
        rows = slice(rank * BATCH, (rank + 1) * BATCH)
        torch.save(
            [results(model, rows, mode, torch.distributed.group.WORLD) for mode in ("reject", "correct")],
            f"{folder}/rank{rank}.pt",
        )


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path):
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=RANKS)
    for place, mode in enumerate(("reject", "correct")):
        expected = results(make_model(), slice(None), mode)
        halves = [results(make_model(), slice(rank * BATCH, (rank + 1) * BATCH), mode) for rank in range(RANKS)]
        assert not torch.allclose(torch.stack([half[0] for half in halves]).mean(), expected[0])
        for rank in range(RANKS):
            for result, true in zip(torch.load(tmp_path / f"rank{rank}.pt")[place], expected, strict=True):
                torch.testing.assert_close(result, true)
