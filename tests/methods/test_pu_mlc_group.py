"""The objective of PU-MLC under DistributedDataParallel: two forward passes, one exchange of gradients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from pumlc.engine.distributed import World, process_group
from pumlc.methods.pu_mlc import PUMLC

RANKS, BATCH, CLASSES = 2, 5, 4


def make_model() -> nn.Module:
    """With a BatchNorm that trains: each forward pass moves its running statistics."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES))


def gradients_of_rank(rank: int, model: nn.Module) -> list[torch.Tensor]:
    """After one step on the rank's own images and its own mixture of them."""
    torch.manual_seed(1 + rank)
    images = torch.randn(BATCH, 3, 4, 4)
    labels = (torch.rand(BATCH, CLASSES) < 0.3).to(torch.int8)
    batch = SimpleNamespace(images=images, labels=labels, index=torch.arange(BATCH))
    PUMLC(mixup=1.0)(model, batch, epoch=0).loss.backward()
    return [parameter.grad for parameter in model.parameters()]


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    with process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS):
        model = World(torch.device("cpu"), rank, RANKS).wrap(make_model())
        torch.save(gradients_of_rank(rank, model), f"{folder}/rank{rank}.pt")


@pytest.mark.slow
def test_gradients_are_the_mean_over_the_ranks(tmp_path: Path):
    mp.spawn(run_rank, args=(str(tmp_path),), nprocs=RANKS)
    alone = [gradients_of_rank(rank, make_model()) for rank in range(RANKS)]
    assert not torch.allclose(alone[0][0], alone[1][0])
    for rank in range(RANKS):
        for result, *parts in zip(torch.load(tmp_path / f"rank{rank}.pt"), *alone, strict=True):
            torch.testing.assert_close(result, torch.stack(parts).mean(0))
