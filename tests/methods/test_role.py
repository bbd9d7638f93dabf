"""EPR and ROLE: values and gradients, what the table begins with, and what is kept of it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor

from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.schedule import Constant
from pumlc.engine.setup import build_method
from pumlc.errors import InputError
from pumlc.methods.role import EPR, ROLE, initial_table

ALONE = World(torch.device("cpu"))
K = 1.4
INDEX = torch.tensor([4, 0, 3])
LABELS = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 1, 0]], dtype=torch.int8)


def make_batch(dtype=torch.float64, scale=2.0) -> SimpleNamespace:
    """Logits [3, 4] as images, for a model that passes them on."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = (scale * logits).to(dtype).requires_grad_()
    return SimpleNamespace(images=images, labels=LABELS[INDEX], index=INDEX)


def epr(logits: Tensor, labels: Tensor) -> Tensor:
    p = logits.sigmoid()
    entropy = torch.where(labels == 1, -p.log(), 0.0) + torch.where(labels == -1, -(1 - p).log(), 0.0)
    return entropy.sum() / p.numel() + (p.sum() / len(p) - K) ** 2 / p.shape[1] ** 2


def cross_entropy(logits: Tensor, other: Tensor) -> Tensor:
    p, q = logits.sigmoid(), other.detach().sigmoid()
    return -(q * p.log() + (1 - q) * (1 - p).log()).mean()


def take_step(method, batch):
    step = method(torch.nn.Identity(), batch, 0)
    assert torch.equal(step.logits, batch.images.detach())
    assert not step.logits.requires_grad
    assert not any(part.requires_grad for part in step.parts.values())
    return step


def test_epr_is_what_plain_pytorch_says():
    batch = make_batch()
    step = take_step(EPR(K), batch)
    expected = epr(batch.images, batch.labels)
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(sum(step.parts.values()), expected.detach())
    gradients = (torch.autograd.grad(loss, batch.images)[0] for loss in (step.loss, expected))
    torch.testing.assert_close(*gradients)


def test_epr_has_nothing_to_say_where_the_count_is_right_and_no_label_known():
    batch = make_batch(scale=0)
    batch.labels = torch.zeros_like(batch.labels)
    step = take_step(EPR(2.0), batch)
    assert step.loss == 0
    assert not torch.autograd.grad(step.loss, batch.images)[0].any()


def test_role_is_what_plain_pytorch_says():
    batch, method = make_batch(), ROLE(LABELS, K, seed=3)
    method.table.data = method.table.data.double()
    step = take_step(method, batch)

    logits, table = batch.images, method.table.detach().requires_grad_()
    t = table[INDEX]
    network = epr(logits, batch.labels) + cross_entropy(logits, t)
    estimator = epr(t, batch.labels) + cross_entropy(t, logits)
    expected = 0.5 * (network + estimator)
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(step.parts["network"], network.detach())
    torch.testing.assert_close(step.parts["table"], estimator.detach())
    ours = torch.autograd.grad(step.loss, [batch.images, method.table])
    for gradient, wanted in zip(ours, torch.autograd.grad(expected, [logits, table]), strict=True):
        torch.testing.assert_close(gradient, wanted)
    assert (ours[1][INDEX] != 0).all()
    assert not ours[1][[1, 2]].any()  # of images that the batch is without


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("make", [EPR, lambda k: ROLE(LABELS, k)], ids=["epr", "role"])
def test_large_logits(make, dtype):
    """Known labels of which the network is sure to the contrary keep their slope, and the loss its value."""
    batch, method = make_batch(dtype), make(K)
    wrong = torch.where(batch.labels == 1, -100.0, 100.0)
    batch.images = wrong.to(dtype).requires_grad_()
    if isinstance(method, ROLE):
        method.table.data[INDEX] = wrong
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        step = take_step(method, batch)
    step.loss.backward()
    known = batch.labels != 0
    share = 0.5 if isinstance(method, ROLE) else 1.0  # each side has one half
    assert step.loss.dtype == torch.float32
    assert step.loss.item() == pytest.approx(100 * 4 / 12 + ((9 / 3 - K) / 4) ** 2)
    assert torch.isfinite(batch.images.grad).all()
    wanted = share * -batch.labels[known] / 12
    torch.testing.assert_close(batch.images.grad[known], wanted.to(dtype))
    if isinstance(method, ROLE):
        torch.testing.assert_close(method.table.grad[INDEX][known], wanted.float())


def test_the_table_begins_as_published():
    labels = torch.zeros(400, 30, dtype=torch.int8)
    labels[0], labels[1] = 1, -1
    table = initial_table(labels, 5)
    assert table.dtype == torch.float32
    probability = table.sigmoid()
    torch.testing.assert_close(probability[0], torch.full((30,), 0.995))
    torch.testing.assert_close(probability[1], torch.full((30,), 0.005))
    unobserved = table[2:] / math.log(0.6 / 0.4)
    assert -1 <= unobserved.min() < -0.99
    assert 0.99 < unobserved.max() <= 1
    assert abs(unobserved.mean()) < 0.02
    assert abs(unobserved.square().mean() - 1 / 3) < 0.02  # of numbers uniform in [-1, 1]
    assert torch.equal(initial_table(labels, 5), table)
    assert not torch.equal(initial_table(labels, 6), table)


def test_the_table_trains_ten_times_faster_without_decay():
    method = ROLE(LABELS, K)
    before = method.table.detach().clone()
    optimizer = torch.optim.Adam(method.parameter_groups(), weight_decay=0.5)
    Constant(0.01).apply(optimizer, 0)
    take_step(method, make_batch()).loss.backward()
    optimizer.step()
    moved = before - method.table.detach()
    torch.testing.assert_close(moved[INDEX], 0.1 * method.table.grad[INDEX].sign(), rtol=1e-3, atol=0)
    assert not moved[[1, 2]].any()


def test_state_there_and_back():
    method, other = ROLE(LABELS, K, seed=1), ROLE(LABELS, K, seed=2)
    parameter = other.parameter_groups()[0]["params"][0]
    other.load_state_dict(method.state_dict())
    assert other.table is parameter  # which the optimiser holds
    assert torch.equal(other.table, method.table)
    assert other.table.requires_grad
    with pytest.raises(InputError, match="labels of 5 images and 4 classes, the data has 3 and 4"):
        ROLE(LABELS[:3], K).load_state_dict(method.state_dict())


def test_how_many_positives_the_table_holds():
    method = ROLE(LABELS, K)
    method.table.data = torch.full((5, 4), 0.25).logit()
    assert method.end_epoch(0) == {"estimated_positives": 1.0}


@pytest.mark.parametrize(("name", "kind"), [("epr", EPR), ("role", ROLE)])
def test_settings(name, kind):
    assert name in get_args(get_type_hints(Config)["method"])
    config = Config("x", "demo", method=name, expected_positives=1.5, seed=7, cuda_graph=True)
    method = build_method(config, LABELS, ALONE)
    assert type(method) is kind
    assert method.expected_positives == 1.5
    if kind is ROLE:
        assert torch.equal(method.table, initial_table(LABELS, 7))
