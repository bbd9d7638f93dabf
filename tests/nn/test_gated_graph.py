"""pumlc.nn.GatedGraphNetwork against the module as published, in float64, and the graph itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pumlc.nn import GatedGraphNetwork, co_occurrence
from tests.nn.published_recogniser import PublishedGraph
from tests.nn.test_local_global import assert_same


def test_co_occurrence():
    labels = torch.tensor([[1, 1, 0, -1], [1, 0, 0, -1], [1, -1, -1, 1], [0, 1, 0, 0]], dtype=torch.int8)
    third = 1 / 3
    expected = torch.tensor([[1, third, 0, third], [0.5, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
    assert torch.equal(co_occurrence(labels), expected)  # the third class, never positive, is alone


def test_no_positive_at_all():
    assert torch.equal(co_occurrence(torch.zeros(3, 2, dtype=torch.int8)), torch.eye(2))
    assert torch.equal(co_occurrence(torch.zeros(0, 2, dtype=torch.int8)), torch.eye(2))


@pytest.mark.parametrize(("classes", "steps"), [(5, 3), (5, 1), (1, 3)])
def test_is_the_published_module(classes, steps):
    torch.manual_seed(0)
    adjacency = co_occurrence((torch.rand(30, classes) < 0.4).to(torch.int8)).double()
    matrices = [nn.Parameter(m, requires_grad=False) for m in (adjacency, adjacency.T.contiguous())]
    published = PublishedGraph(12, steps, *matrices).double()
    for name, parameter in published.named_parameters():
        if not name.endswith("Matrix"):
            nn.init.normal_(parameter, std=0.4)
    ours = GatedGraphNetwork(adjacency, 12, steps).double()
    layers = {name: tensor for name, tensor in published.state_dict().items() if not name.endswith("Matrix")}
    ours.load_state_dict({**layers, "adjacency": adjacency}, strict=True)
    h = torch.randn(3, classes, 12, dtype=torch.float64, requires_grad=True)
    y, expected = ours(h), published(h)
    assert_same(y, expected)
    names, parameters = zip(*ours.named_parameters(), strict=True)
    theirs = dict(published.named_parameters())
    truth = torch.autograd.grad(expected.sin().sum(), [h, *(theirs[name] for name in names)])
    for gradient, true in zip(torch.autograd.grad(y.sin().sum(), [h, *parameters]), truth, strict=True):
        assert true.abs().max() > 0
        assert_same(gradient, true)


def test_alone_classes_do_not_hear_of_others():
    torch.manual_seed(0)
    graph = GatedGraphNetwork(torch.eye(3), 8)
    h = torch.randn(2, 3, 8)
    changed = h.clone()
    changed[:, 0] += 1
    before, after = graph(h), graph(changed)
    assert torch.equal(before[:, 1:], after[:, 1:])
    assert not torch.equal(before[:, 0], after[:, 0])


def test_half_precision():
    torch.manual_seed(0)
    graph = GatedGraphNetwork(torch.full((3, 3), 0.5).fill_diagonal_(1), 16)
    h = torch.randn(4, 3, 16)
    expected = graph(h)
    with torch.autocast("cpu", torch.bfloat16):
        y = graph(h.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y - expected).norm() <= 0.02 * expected.norm()
