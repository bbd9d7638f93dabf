"""The PU loss with statistics summed over a process group: the same training, however many processes share it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pumlc.engine.distributed import process_group
from pumlc.ops import pu_loss, pu_statistics, reference

BATCH, FEATURES, CLASSES = 70, 12, 9


def make_batch():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH, FEATURES, generator=generator)
    labels = (torch.rand(BATCH, CLASSES, generator=generator) < 0.1).to(torch.int8)
    labels[:, 3] = 0  # no positive anywhere
    labels[:, 4] = 0
    labels[-1, 4] = 1  # one positive, in the last share
    model = nn.Linear(FEATURES, CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, features, labels


def train_step(rank: int, shares: list[int]) -> dict[str, torch.Tensor]:
    """What comes out of one forward and backward pass of a rank with its share of the batch."""
    model, features, labels = make_batch()
    model = DistributedDataParallel(model)
    first = sum(shares[:rank])
    rows = slice(first, first + shares[rank])
    logits = model(features[rows])
    loss = pu_loss(logits, labels[rows], group=dist.group.WORLD)
    statistics = pu_statistics(logits, labels[rows], group=dist.group.WORLD)
    loss.backward()
    result = {"loss": loss.detach(), "statistics": torch.stack(statistics)}
    return result | {name: parameter.grad for name, parameter in model.module.named_parameters()}


def run_rank(rank: int, shares: list[int], folder: str) -> None:
    """A process of its own: a training step in a process group, written to a file."""
    torch.set_num_threads(1)
    with process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(shares)):
        torch.save(train_step(rank, shares), f"{folder}/rank{rank}.pt")
    threads = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").glob("*")]
    assert not any("gloo" in name for name in threads), f"threads outlive their process group: {threads}"


@pytest.mark.slow
@pytest.mark.parametrize("shares", [[50, 20], [40, 29, 1], [0, 30, 40]], ids=str)
def test_ranks_together_are_one_process(shares: list[int], tmp_path: Path):
    mp.spawn(run_rank, args=(shares, str(tmp_path)), nprocs=len(shares))
    model, features, labels = make_batch()
    model.double()
    logits = model(features.double())
    loss = reference.pu_loss(logits, labels)
    loss.backward()
    truth = {"loss": loss.detach(), "statistics": torch.stack(reference.pu_statistics(logits, labels)).detach()}
    truth |= {name: parameter.grad for name, parameter in model.named_parameters()}
    results = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(len(shares))]
    for result in results:
        for name, expected in truth.items():
            error = (result[name].double() - expected).norm() / expected.norm()
            assert error <= 1e-5, f"{name}: relative error {error:.3g}"
            assert torch.equal(result[name], results[0][name]), f"{name} differs between ranks"


def test_local_statistics_depend_on_the_share():
    """As published, without a group: the reason why `group` exists."""
    _, _, labels = make_batch()
    logits = torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(1))
    whole = pu_loss(logits, labels)
    halves = (pu_loss(logits[:35], labels[:35]) + pu_loss(logits[35:], labels[35:])) / 2
    assert abs(whole - halves) > 0.01 * abs(whole)
