"""MILe over a process group: two processes that share a batch are one process with all of it, and have one teacher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from pumlc.engine.distributed import World, process_group
from pumlc.methods.mile import MILe

RANKS, BATCH, CLASSES, FEATURES = 2, 6, 5, 7
STEPS, K1, K2 = 8, 3, 2  # into the second generation's teacher
WHOLE = slice(0, RANKS * BATCH)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, CLASSES))


def train(model: nn.Module, rows: slice, steps: int, group=None) -> MILe:
    """The method after gradient descent on some rows of every batch."""
    generator = torch.Generator().manual_seed(2)
    method = MILe(K1, K2, group=group)
    for _ in range(steps):
        images = torch.randn(RANKS * BATCH, FEATURES, generator=generator)
        labels = torch.randint(0, 2, (RANKS * BATCH, CLASSES), generator=generator, dtype=torch.int8)
        batch = SimpleNamespace(images=images[rows], labels=labels[rows], index=torch.arange(RANKS * BATCH)[rows])
        model.zero_grad()
        method(model, batch, 0).loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    return method


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    rows = slice(rank * BATCH, (rank + 1) * BATCH)
    with process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS):
        world = World(torch.device("cpu"), rank, RANKS)
        plain, with_norm = linear(), normed()
        method = train(world.wrap(plain), rows, STEPS, world.group)
        wrapped = world.wrap(with_norm)
        train_normed = train(wrapped, rows, K1, world.group)
        own_mean = with_norm[0].running_mean.clone()
        batch = SimpleNamespace(images=torch.zeros(2, FEATURES), labels=torch.zeros(2, CLASSES, dtype=torch.int8))
        train_normed(wrapped, batch, 0)
        results = {
            "weights": plain.state_dict(),
            "state": method.state_dict(),
            "numbers": method.end_epoch(0),
            "own_mean": own_mean,
            "teacher": train_normed.teacher.state_dict(),
        }
        torch.save(results, f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path):
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=RANKS)
    model = linear()
    method = train(model, WHOLE, STEPS)
    state, numbers = method.state_dict(), method.end_epoch(0)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(RANKS))
    for found in (first, second):
        torch.testing.assert_close(found["weights"], model.state_dict())
        assert found["state"]["iteration"] == STEPS
        assert found["numbers"] == numbers == {"generation": 2, "phase": 1} | numbers
        assert found["state"]["counts"] == state["counts"]
    assert 0 < state["counts"][0] < CLASSES * state["counts"][1]

    assert not torch.equal(first["own_mean"], second["own_mean"])
    for name, tensor in first["teacher"].items():
        assert torch.equal(second["teacher"][name], tensor), name
    mean = (first["own_mean"] + second["own_mean"]) / 2
    torch.testing.assert_close(first["teacher"]["0.running_mean"], mean)
