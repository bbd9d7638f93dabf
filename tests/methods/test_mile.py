"""MILe: how long its phases are, what is learned in each, and what of it goes on in another process."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pumlc.methods.mile import MILe
from pumlc.nn.classifier import Classifier

FEATURES, CLASSES = 6, 4


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES)


def batches(count: int):
    """Labels of all three kinds, three images each."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield SimpleNamespace(
            images=3 * torch.randn(3, FEATURES, generator=generator),
            labels=torch.randint(-1, 2, (3, CLASSES), generator=generator, dtype=torch.int8),
            index=torch.arange(3),
        )


def train(method: MILe, model: nn.Module, steps: int) -> list[torch.Tensor]:
    """Steps of gradient descent; the losses."""
    losses = []
    for batch in batches(steps):
        step = method(model, batch, 0)
        assert torch.equal(step.logits, model(batch.images).detach())
        model.zero_grad()
        step.loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        losses.append(step.loss.detach())
    return losses


def loss_on(targets: torch.Tensor, model: nn.Module, batch) -> torch.Tensor:
    """Plain torch: summed over classes, averaged over images."""
    return binary_cross_entropy_with_logits(model(batch.images), targets.float(), reduction="none").sum(1).mean()


def test_phases_are_exactly_as_long_as_said(model):
    """By hand, with a second network: three steps on the given labels, two on those of the network after them."""
    ours, teacher = copy.deepcopy(model), None
    method = MILe(3, 2)
    for number, (batch, loss) in enumerate(zip(batches(11), train(method, ours, 11), strict=True)):
        if number in (3, 8):
            teacher = copy.deepcopy(model)
        targets = teacher(batch.images).sigmoid() > 0.5 if number in (3, 4, 8, 9) else batch.labels == 1
        expected = loss_on(targets, model, batch)
        torch.testing.assert_close(loss, expected.detach())
        for parameter, gradient in zip(
            model.parameters(), torch.autograd.grad(expected, list(model.parameters())), strict=True
        ):
            parameter.data -= 0.1 * gradient
    torch.testing.assert_close(list(ours.parameters()), list(model.parameters()))


def test_the_teacher_stays_and_goes(model):
    method = MILe(2, 3)
    train(method, model, 2)
    assert method.teacher is None
    at_the_end = copy.deepcopy(model.state_dict())
    for _ in range(3):
        train(method, model, 1)
        for name, tensor in method.teacher.state_dict().items():
            assert torch.equal(tensor, at_the_end[name])
        assert not torch.equal(model.weight, at_the_end["weight"])
        assert all(parameter.grad is None for parameter in method.teacher.parameters())
    train(method, model, 1)
    assert method.teacher is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, lambda p, y: p > 0.5),
        ({"threshold": 0.9}, lambda p, y: p > 0.9),
        ({"union": True}, lambda p, y: ((p > 0.5) & (y != -1)) | (y == 1)),
        ({"threshold": 0.0}, lambda p, y: torch.ones_like(p)),
        ({"threshold": 1.0, "union": True}, lambda p, y: y == 1),
    ],
)
def test_labels_of_the_teacher(options, expected, model):
    method = MILe(1, 1, **options)
    train(method, model, 1)
    batch = next(batches(1))
    targets = expected(model(batch.images).detach().sigmoid(), batch.labels)
    torch.testing.assert_close(method(model, batch, 0).loss, loss_on(targets, model, batch))


def test_sampled_labels_are_those_of_the_generator(model):
    batch = next(batches(1))
    batch.images, batch.labels = batch.images[:1].repeat(4000, 1) / 10, batch.labels[:1].repeat(4000, 1)
    method = MILe(1, 2, sample=True)
    method(model, batch, 0)
    torch.manual_seed(7)
    first = method(model, batch, 0).loss
    probability = model(batch.images).detach().sigmoid()
    torch.manual_seed(7)
    torch.testing.assert_close(first, loss_on(torch.bernoulli(probability), model, batch))
    counted = method.end_epoch(0)["pseudo_labels_per_image"]
    assert counted == pytest.approx(float(probability[0].sum()), abs=0.1)
    assert 0 < float(probability.min()) < float(probability.max()) < 1


def test_numbers_of_an_epoch(model):
    method = MILe(2, 2, threshold=0.0)
    train(method, model, 2)
    assert method.end_epoch(0) == {"generation": 1, "phase": 1}
    train(method, model, 1)
    assert method.end_epoch(1) == {"generation": 1, "phase": 2, "pseudo_labels_per_image": CLASSES}
    train(method, model, 2)
    assert method.end_epoch(2) == {"generation": 2, "phase": 1, "pseudo_labels_per_image": CLASSES}


@pytest.mark.parametrize("steps", range(1, 7))
def test_another_one_goes_on(steps, model):
    """At every place of two phases of three steps."""
    method, other = MILe(3, 3), MILe(3, 3)
    train(method, model, steps)
    state = copy.deepcopy(method.state_dict())
    assert (state["teacher"] is None) == (steps not in (4, 5))
    other.load_state_dict(state)
    assert [str(value) for value in other.state_dict().values()] == [str(value) for value in state.values()]
    again = copy.deepcopy(model)
    assert train(method, model, 3) == train(other, again, 3)
    assert method.end_epoch(0) == other.end_epoch(0)


@pytest.mark.parametrize("settings", [{"train_all": True}, {}, {"local_global": True}])
def test_the_teacher_says_what_the_network_does_in_evaluation(settings):
    """Bit for bit, with frozen norms folded or running statistics on their way."""
    torch.manual_seed(0)
    network = Classifier("test_resnet", CLASSES, image_size=32, **settings).train()
    batch = SimpleNamespace(images=torch.randn(4, 3, 32, 32), labels=torch.ones(4, CLASSES, dtype=torch.int8))
    method = MILe(1, 1)
    method(network, batch, 0)
    network.eval()
    with torch.no_grad():
        expected = network(batch.images)
    network.train()
    method(network, batch, 0)
    with torch.no_grad():
        assert torch.equal(method.teacher(batch.images), expected)
        assert torch.equal(network(batch.images), expected) != network.train_all
    assert not any(module.training for module in method.teacher.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "k1: got 0, wanted at least one step"),
        ((1, 0), "k2: got 0, wanted at least one step"),
        ((1, 1, 1.5), r"threshold: got 1\.5, wanted a probability"),
        ((1, 1, float("nan")), "threshold: got nan"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MILe(*arguments)
