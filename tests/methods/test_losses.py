"""The losses of pumlc.ops.elementwise_loss as methods."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch

from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.setup import build_method
from pumlc.errors import InputError
from pumlc.methods.losses import ElementwiseLoss
from pumlc.ops import LOSS_KINDS, elementwise_loss

ALONE = World(torch.device("cpu"))
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-0.3, 1.5, -2.0]])
LABELS = torch.tensor([[1, 0, -1], [0, 0, 1]], dtype=torch.int8)


def take_step(method, epoch, rows=slice(None)):
    """The step of a model whose images are its logits, and the gradient."""
    logits = LOGITS[rows].clone().requires_grad_()
    batch = SimpleNamespace(images=logits, labels=LABELS[rows], index=torch.arange(2)[rows])
    step = method(torch.nn.Identity(), batch, epoch)
    step.loss.backward()
    return step, logits.grad


def test_unknown_is_negative():
    step, gradient = take_step(ElementwiseLoss("an"), 0)
    targets = (LABELS == 1).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, targets)
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(gradient, (LOGITS.sigmoid() - targets) / 6)
    assert torch.equal(step.logits, LOGITS)


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_every_kind_is_a_method(kind):
    assert kind in get_args(get_type_hints(Config)["method"])
    method = build_method(Config("x", "demo", method=kind, epochs=8), LABELS, ALONE)
    for epoch in (0, 1, 7):
        step, _ = take_step(method, epoch)
        assert torch.equal(step.loss, elementwise_loss(LOGITS, LABELS, kind, **method.parameters(epoch)))
    assert (method.parameters(0) != method.parameters(7)) == (not method.is_repeatable)


@pytest.mark.parametrize("kind", ["an", "asl"])
def test_two_processes_are_as_one_with_the_whole_batch(kind):
    whole, gradient = take_step(ElementwiseLoss(kind), 0)
    parts = [take_step(ElementwiseLoss(kind, processes=2), 0, slice(i, i + 1)) for i in range(2)]
    torch.testing.assert_close(torch.stack([step.loss for step, _ in parts]).mean(), whole.loss)
    torch.testing.assert_close(torch.cat([part for _, part in parts]) / 2, gradient)  # as the average over both


def test_splc_corrects_after_the_first_epoch():
    (first, _), (second, _) = (take_step(ElementwiseLoss("splc"), epoch) for epoch in (0, 1))
    assert torch.equal(first.loss, elementwise_loss(LOGITS, LABELS, "splc"))
    assert torch.equal(second.loss, elementwise_loss(LOGITS, LABELS, "splc", correct=True))
    assert first.loss != second.loss  # the logit of 1.5 is an unobserved positive


def test_the_schedule_of_gr():
    method = ElementwiseLoss("gr", epochs=8)
    assert method.parameters(0) == pytest.approx({"w": 0.0, "mu": 0.5 + 0.3 / 8, "sigma": 2 - 1.5 / 8})
    assert method.parameters(7) == pytest.approx({"w": 2 * 7 / 8, "mu": 0.8, "sigma": 0.5})


@pytest.mark.parametrize("kind", ["splc", "gr"])
def test_a_cuda_graph_cannot_follow_a_loss_that_changes(kind):
    config = Config("x", "demo", method=kind, cuda_graph=True)
    with pytest.raises(
        InputError, match=f"--cuda-graph repeats one step, and --method {kind} does not do the same in each"
    ):
        build_method(config, LABELS, ALONE)


def test_explains_what_is_off():
    logits = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    assert "logits of 1 of 2 images" in ElementwiseLoss("an").explain(logits, torch.zeros(2, 2), ("cat", "dog"))
