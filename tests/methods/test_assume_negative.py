"""The baseline: cross-entropy with unknown labels taken for negatives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pumlc.methods.assume_negative import AssumeNegative


def test_unknown_is_negative():
    model = torch.nn.Identity()
    logits = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    batch = SimpleNamespace(images=logits, labels=torch.tensor([[1, 0, -1]], dtype=torch.int8), index=torch.arange(1))
    step = AssumeNegative()(model, batch, epoch=0)
    softplus = torch.nn.functional.softplus
    expected = (softplus(torch.tensor(-2.0)) + softplus(torch.tensor(-1.0)) + softplus(torch.tensor(0.5))) / 3
    assert step.loss.item() == pytest.approx(expected.item())
    step.loss.backward()
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - targets) / 3)
    assert torch.equal(step.logits, logits.detach())


def test_explains_what_is_off():
    logits = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    assert "logits of 1 of 2 images" in AssumeNegative().explain(logits, torch.zeros(2, 2), ("cat", "dog"))
