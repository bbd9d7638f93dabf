"""PU-MLC as a method: the loss of the batch, and what it says of a bad one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pumlc.methods.mixup import Mixture
from pumlc.methods.pu_mlc import PUMLC
from pumlc.ops import reference

IMAGES = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 0.5], [2.0, 0.5, -1.0]])
LABELS = torch.tensor([[1, 0, -1], [0, 1, -1], [1, 1, 0]], dtype=torch.int8)


def test_loss_and_gradient_are_those_of_the_reference():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)
    batch = SimpleNamespace(images=IMAGES, labels=LABELS, index=torch.arange(3))
    step = PUMLC(alpha=2.0, gamma=0.85, min_temperature=0.1)(model, batch, epoch=0)
    step.loss.backward()
    gradient = model.weight.grad.clone()
    model.weight.grad = None
    logits = model(IMAGES)
    expected = reference.pu_loss(logits, LABELS, 2.0, 0.85, min_temperature=0.1)
    expected.backward()
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(gradient, model.weight.grad)
    assert torch.equal(step.logits, logits)
    assert not step.logits.requires_grad


def test_the_objective_with_mixup_is_that_of_the_reference():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)
    batch = SimpleNamespace(images=IMAGES, labels=LABELS, index=torch.arange(3))
    torch.manual_seed(7)
    step = PUMLC(mixup=0.5, mixup_beta=0.3)(model, batch, epoch=0)
    step.loss.backward()
    gradient = model.weight.grad.clone()
    model.weight.grad = None

    torch.manual_seed(7)
    permutation, mix = Mixture.draw(IMAGES, 0.3)
    # the published way: a second forward pass, of the mixed images alone; the middle one of three is in both halves
    logits, mixed_logits = model(IMAGES), model(mix * IMAGES[:2][permutation] + (1 - mix) * IMAGES[1:])
    pu = reference.pu_loss(logits, LABELS)
    consistency = reference.mixup_consistency(logits, LABELS, mixed_logits, permutation, mix)
    (pu + 0.5 * consistency).backward()
    torch.testing.assert_close(step.loss, pu + 0.5 * consistency)
    torch.testing.assert_close(gradient, model.weight.grad)
    torch.testing.assert_close(dict(step.parts), {"pu": pu.detach(), "mixup": consistency.detach()})
    assert not any(part.requires_grad for part in step.parts.values())
    assert torch.equal(step.logits, logits)


def test_the_target_can_be_detached():
    model = torch.nn.Linear(3, 3)
    batch = SimpleNamespace(images=IMAGES, labels=LABELS, index=torch.arange(3))
    gradients = []
    for detach_target in (False, True):
        torch.manual_seed(7)
        step = PUMLC(mixup=1.0, detach_target=detach_target)(model, batch, epoch=0)
        gradients.append(torch.autograd.grad(step.loss, model.weight)[0])
    assert not torch.allclose(*gradients)


def test_a_mixture_is_a_random_pairing_and_a_share():
    images = torch.randn(7, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(1)
    mixtures = [Mixture.draw(images, 0.3) for _ in range(400)]
    for mixture in mixtures:
        assert mixture.permutation.sort().values.tolist() == [0, 1, 2, 3]
    assert len({tuple(mixture.permutation.tolist()) for mixture in mixtures}) == 24
    shares = torch.stack([mixture.mix for mixture in mixtures])
    assert ((shares >= 0) & (shares <= 1)).all()
    # of Beta(0.3, 0.3) the mean is 1 / 2 and the variance 1 / (4 (2 * 0.3 + 1)); 4 standard errors
    assert abs(shares.mean() - 0.5) < 4 * (0.15625 / 400) ** 0.5
    assert abs(shares.var() - 0.15625) < 0.03


@pytest.mark.parametrize(("rows", "halves"), [(5, [0, 1, 2, 2, 3, 4]), (6, [0, 1, 2, 3, 4, 5])])
def test_mixed_images(rows, halves):
    images = torch.randn(rows, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    mixture = Mixture(torch.tensor([2, 0, 1]), torch.tensor(0.25))
    mixed = mixture.of(images)
    first, second = images[halves[:3]], images[halves[3:]]
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mixed, 0.25 * first[[2, 0, 1]] + 0.75 * second)
    assert mixture.of(images.half()).dtype == torch.float16


def test_explains_what_is_off():
    logits = IMAGES.clone()
    logits[1, 2] = float("nan")
    text = PUMLC().explain(logits, LABELS, ("cat", "dog", "cow"))
    assert "logits of 1 of 3 images are not finite" in text
    assert "cow: positives 0, temperature nan" in text
    assert "cat" not in text


def test_explains_mixed_images():
    """Nothing is off in the batch, and the regulariser is finite wherever the logits are."""
    assert PUMLC(mixup=1.0).explain(IMAGES, LABELS, ("x",) * 3) == "  the logits of the mixed images are not finite"


def test_explains_many_classes_in_few_lines():
    text = PUMLC().explain(torch.full((2, 30), float("inf")), torch.ones(2, 30, dtype=torch.int8), ("x",) * 30)
    assert text.splitlines()[-1] == "  and 22 more of 30 classes"
    assert len(text.splitlines()) == 10
