"""EPR and ROLE over a process group: two processes that share a batch are one process with all of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from pumlc.engine.distributed import World, process_group
from pumlc.methods.role import EPR, ROLE

RANKS, BATCH, CLASSES, FEATURES, IMAGES = 2, 3, 4, 5, 9
KINDS = ("epr", "role")


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def results(model: nn.Module, rows: slice, kind: str, group=None) -> tuple[torch.Tensor, ...]:
    """Loss and gradients of a linear model on some rows of the batch; for ROLE, the table after a step of Adam too."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(RANKS * BATCH, FEATURES, generator=generator)
    images[:BATCH] *= 4  # the processes see different numbers of positives
    all_labels = torch.randint(-1, 2, (IMAGES, CLASSES), generator=generator, dtype=torch.int8)
    index = torch.randperm(IMAGES, generator=generator)[: RANKS * BATCH]
    batch = SimpleNamespace(images=images[rows], labels=all_labels[index[rows]], index=index[rows])
    method = ROLE(all_labels, 1.3, 5, group) if kind == "role" else EPR(1.3, group)
    loss = method(model, batch, 0).loss
    model.zero_grad()
    loss.backward()
    table = ()
    if kind == "role":
        gradient = method.table.grad.clone()
        torch.optim.Adam(method.parameter_groups(), lr=0.1).step()
        table = (gradient, method.state_dict()["table"])
    return loss.detach(), *(parameter.grad.clone() for parameter in model.parameters()), *table


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    with process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS):
        model = World(torch.device("cpu"), rank, RANKS).wrap(make_model())
        rows = slice(rank * BATCH, (rank + 1) * BATCH)
        torch.save(
            {kind: results(model, rows, kind, torch.distributed.group.WORLD) for kind in KINDS},
            f"{folder}/rank{rank}.pt",
        )


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path):
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=RANKS)
    found = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(RANKS)]
    for kind in KINDS:
        expected = results(make_model(), slice(None), kind)
        halves = [results(make_model(), slice(rank * BATCH, (rank + 1) * BATCH), kind) for rank in range(RANKS)]
        assert not torch.allclose(torch.stack([half[1] for half in halves]).mean(0), expected[1])
        for rank in range(RANKS):
            for result, true in zip(found[rank][kind], expected, strict=True):
                torch.testing.assert_close(result, true)
    # nothing brings the tables together again: they may not part by a bit
    assert all(torch.equal(*tables) for tables in zip(*(each["role"][-2:] for each in found), strict=True))
