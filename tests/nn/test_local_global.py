"""pumlc.nn.LocalGlobalConv2d against the module as published, in float64: outputs and every gradient."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from pumlc.nn import LocalGlobalConv2d, dense_local_global, fuse_local_global
from tests.nn.published import PublishedLocalGlobalConv2d

# name, convolution, height and width of the input
CONVOLUTIONS = {
    "dense": (nn.Conv2d(16, 24, 3, padding=1, bias=False), (9, 12)),
    "dense, bias, same": (nn.Conv2d(16, 16, 3, padding="same"), (8, 8)),
    "dense, stride 2, odd": (nn.Conv2d(16, 24, 3, stride=2, padding=1), (9, 13)),
    "dense, stride 2, even": (nn.Conv2d(16, 24, 3, stride=2, padding=1), (8, 10)),
    "dense, dilated": (nn.Conv2d(16, 8, 3, padding=2, dilation=2), (9, 7)),
    "dense, 5 x 3, strides apart": (nn.Conv2d(16, 8, (5, 3), stride=(2, 1), padding=(2, 1)), (9, 7)),
    "dense, one pixel": (nn.Conv2d(16, 8, 3, padding=1), (1, 1)),
    "grouped": (nn.Conv2d(16, 24, 3, padding=1, groups=4), (7, 6)),
    "depthwise 3": (nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False), (7, 10)),
    "depthwise 5, stride 2, odd": (nn.Conv2d(24, 24, 5, stride=2, padding=2, groups=24), (9, 7)),
    "depthwise 7, stride 2, even": (nn.Conv2d(24, 24, 7, stride=2, padding=3, groups=24), (8, 10)),
    "depthwise 7": (nn.Conv2d(16, 16, 7, padding=3, groups=16), (5, 5)),
    "depthwise, dilated": (nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16), (6, 7)),
}
CASES = [(name, False) for name in CONVOLUTIONS] + [("depthwise 3", True), ("depthwise 5, stride 2, odd", True)]


def make(name: str, dense_projections: bool, batch: int = 3):
    """The published module, ours with its weights, and an input, all float64 and far from their first values."""
    torch.manual_seed(0)
    conv, size = copy.deepcopy(CONVOLUTIONS[name])
    published = PublishedLocalGlobalConv2d(conv, dense_projections=dense_projections).double()
    for parameter in published.parameters():
        nn.init.normal_(parameter, std=0.5)
    norm = published.global_branch.norm
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = LocalGlobalConv2d(copy.deepcopy(conv), dense_projections=dense_projections).double()
    ours.load_state_dict(published.state_dict(), strict=True)
    x = torch.randn(batch, conv.in_channels, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    return published, ours, x


def run(module: nn.Module, x: torch.Tensor):
    """Output, gradient of the input, gradients of the parameters that train, by name."""
    x = x.detach().requires_grad_()
    y = module(x)
    names, parameters = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad), strict=True)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).sin().view_as(y)
    x_gradient, *gradients = torch.autograd.grad((y * weights).sum(), [x, *parameters])
    return y.detach(), x_gradient, dict(zip(names, gradients, strict=True))


def assert_same(ours, published, tolerance: float = 1e-10) -> None:
    assert ours.shape == published.shape
    assert (ours - published).abs().max() <= tolerance * max(1.0, published.abs().max().item())


@pytest.mark.parametrize("frozen_weight", [False, True], ids=["trained", "frozen"])
@pytest.mark.parametrize("training", [False, True], ids=["running statistics", "batch statistics"])
@pytest.mark.parametrize(("name", "dense_projections"), CASES)
def test_is_the_published_module(name, dense_projections, training, frozen_weight):
    published, ours, x = make(name, dense_projections)
    for module in (published, ours):
        module.train(training)
        module.conv.requires_grad_(not frozen_weight)
    y, x_gradient, gradients = run(ours, x)
    true_y, true_x_gradient, true_gradients = run(published, x)
    assert_same(y, true_y)
    assert_same(x_gradient, true_x_gradient)
    assert gradients.keys() == true_gradients.keys()
    for parameter, gradient in gradients.items():
        assert_same(gradient, true_gradients[parameter])
    for buffer, truth in zip(ours.buffers(), published.buffers(), strict=True):
        assert_same(buffer, truth)


def test_an_input_with_other_readers():
    published, ours, _ = make("dense, bias, same", False)
    x = torch.randn(2, 16, 6, 5, dtype=torch.float64, requires_grad=True)  # its channels first in memory
    weights = torch.randn(2, 16, 6, 5, dtype=torch.float64)

    def gradients(module):
        map = x.tanh()  # not a leaf, and read before and after the module
        y = map.square() + module.eval()(map) + map
        return [torch.autograd.grad(y, x, weights, retain_graph=True)[0] for _ in range(2)]

    first, again = gradients(ours)
    assert_same(first, gradients(published)[0])
    assert torch.equal(first, again)


@pytest.mark.parametrize("part", ["conv", "global_branch", "x", "global_branch.reduction.weight"])
def test_parts_without_gradients(part):
    modules = make("dense, stride 2, even", False)[:2]
    results = []
    for module in modules:
        x = make("dense, stride 2, even", False)[2].requires_grad_(part != "x")
        for name, parameter in module.eval().named_parameters():
            parameter.requires_grad_(not name.startswith(part))
        module(x).square().sum().backward()
        results.append({name: t.grad for name, t in (("x", x), *module.named_parameters())})
    ours, published = results[1], results[0]
    for name, gradient in published.items():
        assert (gradient is None) == (ours[name] is None)
        if gradient is not None:
            assert_same(ours[name], gradient)


@pytest.mark.parametrize("name", ["dense, stride 2, odd", "depthwise 3", "dense, one pixel"])
def test_gradcheck(name):
    _, ours, x = make(name, False, batch=2)
    ours.eval().requires_grad_(False)
    assert torch.autograd.gradcheck(ours, x[:, :, :4, :3].clone().requires_grad_())


@pytest.mark.parametrize(("name", "dense_projections"), CASES)
def test_inference_form(name, dense_projections):
    _, ours, x = make(name, dense_projections)
    ours.eval()
    expected = ours(x).detach()
    fused = fuse_local_global(ours)
    assert_same(fused(x), expected)
    assert not any(True for _ in fused.parameters())
    exported = torch.export.export(fused, (x,))
    assert_same(exported.module()(x), expected)
    assert not [node for node in exported.graph.nodes if "pumlc" in str(node.target)]


def test_a_batch_of_none():
    _, ours, x = make("dense", False)
    y, x_gradient, gradients = run(ours.eval(), x[:0])
    assert y.shape == (0, 24, 9, 12)
    assert x_gradient.shape == (0, 16, 9, 12)
    assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("bias", ["reduction", "agg_attn", "broad_attn", "v"])
def test_biases_may_change_before_backward(bias):
    _, ours, x = make("dense", False)
    y = ours.eval()(x.requires_grad_()).sum()
    (expected,) = torch.autograd.grad(y, x, retain_graph=True)
    with torch.no_grad():
        ours.global_branch.get_submodule(bias).bias.add_(1.0)
    assert torch.equal(torch.autograd.grad(y, x)[0], expected)


def test_second_derivative_is_a_clear_error():
    _, ours, x = make("dense", False)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        torch.autograd.grad(ours.eval()(x.requires_grad_()).sum(), x, create_graph=True)


@pytest.mark.parametrize("name", ["dense", "dense, stride 2, odd", "dense, 5 x 3, strides apart"])
def test_one_map_holds_the_gradient_of_the_input(name, monkeypatch):
    """What the pool and the reduction add, they add to what the convolution made."""
    made = []
    make_one = dense_local_global.input_gradient
    monkeypatch.setattr(
        dense_local_global, "input_gradient", lambda *inputs: made.append(make_one(*inputs)) or made[-1]
    )
    _, ours, x = make(name, False)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(ours.eval()(x).sum(), x)
    assert gradient.data_ptr() == made[0].data_ptr()


@pytest.mark.parametrize("backward_too", [False, True])
def test_gradients_under_autocast(backward_too):
    published, ours, x = make("dense, stride 2, odd", False)
    _, _, expected = run(published.eval(), x)
    ours.eval().float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ours(x.float()).float()
        loss = (loss * torch.linspace(-1, 1, loss.numel()).sin().view_as(loss)).sum()
    with torch.autocast("cpu", torch.bfloat16, enabled=backward_too):
        gradients = dict(zip(expected, torch.autograd.grad(loss, list(ours.parameters())), strict=True))
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        if name != "global_branch.agg_attn.bias":  # which is 0
            assert (gradient - expected[name]).norm() <= 0.05 * expected[name].norm(), name


def test_a_copy_is_a_module_of_its_own():
    _, ours, x = make("depthwise 3", False)
    ours.eval()
    other = copy.deepcopy(ours)
    expected = ours(x).detach()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert torch.equal(other(x), expected)


@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
@pytest.mark.parametrize("name", ["dense", "depthwise 3", "grouped"])
def test_half_precision(name, precision):
    published, ours, x = make(name, False)
    expected = published.eval()(x).detach()
    ours.eval()
    if precision == "autocast":
        ours.float()
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x.float())
    else:
        y = ours.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y - expected).norm() <= 0.02 * expected.norm()


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(3, 64, 7, stride=2, padding=3), "has 3 input channels, wanted a multiple of the 8 heads"),
        (nn.Conv2d(16, 16, 2), r"has a kernel of \(2, 2\), wanted odd sizes"),
        (nn.Conv2d(16, 16, 3), r"has zeros padding \(0, 0\), wanted zeros, \(1, 1\)"),
        (nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"), "has reflect padding"),
        (nn.ConvTranspose2d(16, 16, 3, padding=1), "is a ConvTranspose2d, wanted a plain Conv2d"),
    ],
)
def test_what_cannot_be_wrapped_is_said(conv, reason):
    with pytest.raises(ValueError, match=reason):
        LocalGlobalConv2d(conv)


def test_what_is_not_fused_is_said():
    with pytest.warns(UserWarning, match="not fused with its global branch"):
        LocalGlobalConv2d(nn.Conv2d(16, 16, 3, padding=1, groups=4))
