"""pumlc.nn.SemanticDecoupling against the module as published, in float64: outputs and every gradient."""

from __future__ import annotations

import pytest
import torch

from pumlc.nn import SemanticDecoupling
from tests.nn.published_recogniser import PublishedDecoupling
from tests.nn.test_local_global import assert_same


def make(classes: int = 5, words: int = 7, side: tuple[int, int] = (3, 4)):
    torch.manual_seed(0)
    published = PublishedDecoupling(24, words, 16).double()
    for parameter in published.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours = SemanticDecoupling(24, words, 16).double()
    ours.load_state_dict(published.state_dict(), strict=True)
    return published, ours, torch.randn(3, 24, *side, dtype=torch.float64), torch.randn(classes, words).double()


def gradients(module, y, inputs):
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).sin().view_as(y)
    return torch.autograd.grad((y * weights).sum(), [*inputs, *module.parameters()])


@pytest.mark.parametrize(
    ("classes", "side"), [(5, (3, 4)), (1, (3, 4)), (5, (1, 1)), (80, (7, 7))], ids=["", "a class", "a pixel", "80"]
)
def test_is_the_published_module(classes, side):
    published, ours, x, words = make(classes, side=side)
    x, words = x.requires_grad_(), words.requires_grad_()
    expected = published(x, words)
    y = ours(x.flatten(2).mT, words)
    assert y.shape == (3, classes, 24)
    assert_same(y, expected)
    names = ["x", "words", *(name for name, _ in ours.named_parameters())]
    truth = gradients(published, expected, [x, words])
    for name, gradient, true in zip(names, gradients(ours, y, [x, words]), truth, strict=True):
        assert true is not None, name
        assert_same(gradient, true)


def test_biases_move_by_weight_decay_alone():
    _, ours, x, words = make()
    ours(x.flatten(2).mT, words).square().sum().backward()
    for bias in (ours.fc3.bias, ours.fc4.bias):
        assert bias.grad.abs().max() < 1e-12
    assert ours.fc3.weight.grad.abs().max() > 1e-3


def test_softmax_over_positions():
    _, ours, x, words = make()
    x = x.flatten(2).mT
    assert ours.scores(x, words).shape == (3, 5, 12)
    same = x[:, :1].expand(-1, 12, -1)  # a mean of equal vectors is that vector, whatever the weights
    torch.testing.assert_close(ours(same, words), same[:, :5], rtol=1e-12, atol=1e-12)
    assert ours(x[:0], words).shape == (0, 5, 24)


def test_half_precision():
    published, ours, x, words = make()
    expected = published(x, words)
    ours.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x.flatten(2).mT.bfloat16(), words.float())
    assert y.dtype == torch.bfloat16
    assert (y - expected).norm() <= 0.02 * expected.norm()
