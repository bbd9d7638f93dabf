"""PU-MLC as a method: the loss of the batch, and what it says of a bad one."""

from __future__ import annotations

from types import SimpleNamespace

import torch

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


def test_explains_what_is_off():
    logits = IMAGES.clone()
    logits[1, 2] = float("nan")
    text = PUMLC().explain(logits, LABELS, ("cat", "dog", "cow"))
    assert "logits of 1 of 3 images are not finite" in text
    assert "cow: positives 0, temperature nan" in text
    assert "cat" not in text


def test_explains_many_classes_in_few_lines():
    text = PUMLC().explain(torch.full((2, 30), float("inf")), torch.ones(2, 30, dtype=torch.int8), ("x",) * 30)
    assert text.splitlines()[-1] == "  and 22 more of 30 classes"
    assert len(text.splitlines()) == 10
