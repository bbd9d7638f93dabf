"""Linear layers as convolutions: nn.Linear's numbers, gradients and shapes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pumlc.nn import linear
from pumlc.nn.linear import Linear
from tests.cases import assert_as_exact_as_eager


def make(inputs: int, outputs: int, bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = Linear(inputs, outputs, bias=bias), nn.Linear(inputs, outputs, bias=bias)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.fixture
def products(monkeypatch):
    """Counts the products that are convolutions."""
    calls = []
    product = linear._product
    monkeypatch.setattr(linear, "_product", lambda a, b: calls.append(a.shape) or product(a, b))
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 80, 128), (7, 53), (1, 1, 3), (2, 3, 5, 1)], ids=str)
def test_is_as_exact_as_nn_linear(shape, bias, products):
    ours, plain = make(shape[-1], 37, bias)
    x = torch.randn(shape)
    upstream = torch.randn(*shape[:-1], 37)

    def results(module: nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
        module, leaf = copy.deepcopy(module).to(dtype), x.to(dtype, copy=True).requires_grad_()
        y = module(leaf)
        return [y.detach(), *torch.autograd.grad(y, [leaf, *module.parameters()], upstream.to(dtype))]

    found = results(ours, torch.float32)
    assert len(products) == 3
    for result, eager, truth in zip(found, results(plain, torch.float32), results(plain, torch.float64), strict=True):
        assert_as_exact_as_eager(result, eager, truth)
    assert found[0].is_contiguous()


def test_strided_input():
    ours, plain = make(6, 5)
    x = torch.randn(6, 4, 3).permute(2, 1, 0)
    torch.testing.assert_close(ours(x), plain(x))


def test_only_what_needs_a_gradient(products):
    ours, _ = make(6, 5)
    ours.weight.requires_grad_(False)
    ours(torch.randn(2, 6, requires_grad=True)).sum().backward()
    assert len(products) == 2


def test_everything_else_is_nn_linear(products):
    ours, plain = make(6, 5)
    x = torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.double()(x.double()), plain.double()(x.double()))
    ours, plain = make(6, 5)
    assert torch.equal(ours(x[0]), plain(x[0]))
    assert ours(x[:0]).shape == (0, 5)
    exported = torch.export.export(ours, (x,)).module()
    assert torch.allclose(exported(x), plain(x))
    assert products == []


@pytest.mark.slow
def test_compiles_to_one_graph():
    ours, plain = make(6, 5)
    x = torch.randn(3, 6)
    torch.testing.assert_close(torch.compile(ours, fullgraph=True)(x), plain(x))
