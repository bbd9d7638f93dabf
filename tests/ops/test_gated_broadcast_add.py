"""pumlc.ops.gated_broadcast_add against its specification, pumlc.ops.reference.gated_broadcast_add."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.ops import gated_broadcast_add, reference
from tests.cases import DTYPES, assert_as_exact_as_eager, assert_same_bits, assert_same_bits_on_any_number_of_threads
from tests.feature_maps import FEATURE_MAPS, FeatureMap
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

MAPS = {case.name: case for case in FEATURE_MAPS}
STRIDED = [case for case in FEATURE_MAPS if case.name in ("one pixel", "primes", "sliced", "no image", "odd sides")]
BOTH = [*((case, 1) for case in FEATURE_MAPS), *((case, 2) for case in STRIDED)]
NAMES = [f"{case.name}{', stride 2' if stride == 2 else ''}" for case, stride in BOTH]


def make_inputs(case: FeatureMap, dtype, device, *, stride=1, vectors=None) -> list[torch.Tensor]:
    """y [B, O, H, W], u [B, O, K], gate_scores [B, K, H', W'], scale [O], shift [O]; u, scale and shift in `vectors`"""
    images, channels = case.shape[:2]
    generator = torch.Generator().manual_seed(3)
    u, scale, shift = (
        torch.randn(size, generator=generator, dtype=torch.float64).to(device, vectors or dtype)
        for size in ((images, channels, case.heads), (channels,), (channels,))
    )
    y = case.random(channels, dtype, device, stride=stride)
    # of an open gate eager PyTorch loses the slope, 1 - sigmoid(x), in float64 too: there is no truth to compare with
    gate_scores = case.scores(dtype, device)
    gate_scores[gate_scores > 30] = 3.0
    return [y, u, gate_scores, scale, shift]


def upstream_of(out: torch.Tensor) -> torch.Tensor:
    """The gradient that comes from above, the same for every provider up to rounding."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)


def sum_and_gradients(function, inputs, *, stride=1, upstream=None):
    """out [B, O, H, W], and the gradients of the inputs for upstream [B, O, H, W]"""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    out = function(*inputs, stride=stride)
    upstream = upstream_of(out) if upstream is None else upstream
    return out.detach(), *torch.autograd.grad(out, inputs, upstream.to(out))


def assert_exact(inputs, results, stride=1) -> None:
    """Output and gradients against eager PyTorch at the dtype of y and against float64."""
    eager = sum_and_gradients(reference.gated_broadcast_add, inputs, stride=stride)
    upstream = upstream_of(eager[0]).double()  # as rounded to the dtype
    doubles = [tensor.double() for tensor in inputs]
    truth = sum_and_gradients(reference.gated_broadcast_add, doubles, stride=stride, upstream=upstream)
    for result, like, true, tensor in zip(results, eager, truth, [inputs[0], *inputs], strict=True):
        assert result.dtype == tensor.dtype
        assert_as_exact_as_eager(result, like, true)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "stride"), BOTH, ids=NAMES)
def test_is_as_exact_as_eager(case, stride, dtype, device):
    inputs = make_inputs(case, dtype, device, stride=stride)
    results = sum_and_gradients(gated_broadcast_add, inputs, stride=stride)
    assert_exact(inputs, results, stride)
    assert results[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_parameters_of_another_dtype_are_exact(dtype, device):
    inputs = make_inputs(MAPS["primes"], dtype, device, vectors=torch.float32)
    assert_exact(inputs, sum_and_gradients(gated_broadcast_add, inputs))


def test_values_worked_out_by_hand(device):
    y = torch.tensor([[[[1.0, 5.0]]]], dtype=torch.float64, device=device)  # one channel, two positions
    gate_scores = torch.tensor([[[[0.0, math.log(3)]]]], dtype=torch.float64, device=device)  # gates 1/2 and 3/4
    u, scale, shift = (torch.tensor(value, dtype=torch.float64, device=device) for value in ([[[4.0]]], [2.0], [10.0]))
    results = sum_and_gradients(
        gated_broadcast_add, (y, u, gate_scores, scale, shift), upstream=torch.tensor([[[[1.0, -1.0]]]])
    )
    out, dy, du, dgate, dscale, dshift = (tensor.flatten().tolist() for tensor in results)
    assert out == pytest.approx([1 + 2 * 0.5 * 4 + 10, 5 + 2 * 0.75 * 4 + 10])
    assert dy == [1.0, -1.0]
    assert du == pytest.approx([2 * (0.5 - 0.75)])
    assert dgate == pytest.approx([0.25 * 8, -0.1875 * 8])
    assert dscale == pytest.approx([4 * (0.5 - 0.75)])
    assert dshift == [0.0]


@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck(stride, device):
    inputs = make_inputs(FeatureMap("small", (2, 3, 5, 4), heads=2), torch.float64, device, stride=stride)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda *tensors: gated_broadcast_add(*tensors, stride=stride), inputs)


@pytest.mark.parametrize("score", [20.0, 80.0, 800.0])
def test_an_open_gate_has_the_slope_of_a_closed_one(score, device):
    y, u, gate_scores, scale, shift = make_inputs(MAPS["primes"], torch.float32, device)
    slopes = [
        sum_and_gradients(gated_broadcast_add, (y, u, torch.full_like(gate_scores, value), scale, shift))[3]
        for value in (score, -score)
    ]
    assert torch.equal(*slopes)
    assert (slopes[0] != 0).any() == (score < 100)


def test_the_gradient_of_y_is_the_upstream_gradient_itself(device):
    inputs = [tensor.requires_grad_() for tensor in make_inputs(MAPS["primes"], torch.float32, device)]
    out = gated_broadcast_add(*inputs)
    upstream = upstream_of(out)
    (gradient,) = torch.autograd.grad(out, inputs[0], upstream)
    assert gradient.data_ptr() == upstream.data_ptr()


def test_second_derivative_is_a_clear_error(device):
    inputs = [tensor.requires_grad_() for tensor in make_inputs(MAPS["primes"], torch.float32, device)]
    out = gated_broadcast_add(*inputs)
    with pytest.raises(RuntimeError, match="gated_broadcast_add has no second derivative"):
        torch.autograd.grad(out.sum(), inputs[1], create_graph=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", range(5), ids=["y", "u", "gate_scores", "scale", "shift"])
def test_input_that_is_not_finite_gives_such_a_result(which, value, device):
    inputs = make_inputs(MAPS["primes"], torch.float32, device)
    inputs[which].select(inputs[which].dim() - 1, 1).fill_(value)
    out = sum_and_gradients(gated_broadcast_add, inputs)[0]
    assert torch.equal(out.isfinite(), reference.gated_broadcast_add(*inputs).isfinite())
    if value is math.nan or which != 2:  # an infinite score is an open gate
        assert not out.isfinite().all()


@pytest.mark.parametrize("name", ["odd sides", "several chunks", "primes"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    inputs = make_inputs(MAPS[name], torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: sum_and_gradients(gated_broadcast_add, inputs))


# One multiprocessor makes few splits of the positions, an H200 many.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one channel", "primes", "more heads than a block", "several chunks"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            inputs = make_inputs(MAPS[name], torch.float32, "cpu")
            results.append(sum_and_gradients(gated_broadcast_add, inputs))
    assert_same_bits(results)
    assert_exact(inputs, results[0])


def replaced(inputs, position, tensor):
    return [*inputs[:position], tensor, *inputs[position + 1 :]]


@pytest.mark.parametrize(
    ("position", "change", "error", "message"),
    [
        (0, lambda t: t[0], ValueError, r"y: got shape \[82, 7, 13\], wanted \[B, C, H, W\]"),
        (0, lambda t: t.int(), TypeError, "y: got dtype Int"),
        (1, lambda t: t[:, :, :1], ValueError, r"u: got shape \[2, 82, 1\], wanted \[2, 82, 2\] beside y"),
        (1, lambda t: t.int(), TypeError, "u: got dtype Int, wanted float64, float32, bfloat16 or float16"),
        (2, lambda t: t[..., :-1], ValueError, r"gate_scores: got shape \[2, 2, 7, 12\], wanted \[B, K, H', W'\]"),
        (2, lambda t: t.double(), TypeError, "gate_scores: got dtype Double, wanted Float"),
        (3, lambda t: t[1:], ValueError, r"scale: got shape \[81\], wanted \[82\] beside y"),
        (4, lambda t: t[None], ValueError, r"shift: got shape \[1, 82\], wanted \[82\] beside y"),
    ],
)
def test_bad_arguments_are_named(position, change, error, message, device):
    inputs = make_inputs(MAPS["primes"], torch.float32, device)
    with pytest.raises(error, match=message):
        gated_broadcast_add(*replaced(inputs, position, change(inputs[position])))


def test_a_bad_stride_is_named(device):
    with pytest.raises(ValueError, match="stride: got 0, wanted at least 1"):
        gated_broadcast_add(*make_inputs(MAPS["primes"], torch.float32, device), stride=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_opcheck(stride, device):
    inputs = make_inputs(MAPS["contiguous"], torch.bfloat16, device, stride=stride, vectors=torch.float32)
    op = torch.ops.pumlc
    torch.library.opcheck(op.gated_broadcast_add.default, (*(t.requires_grad_() for t in inputs), stride))
    y, u, gate_scores, scale, _ = (tensor.detach() for tensor in inputs)
    torch.library.opcheck(op.gated_broadcast_add_backward.default, (y, u, gate_scores, scale, stride))


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    inputs = make_inputs(MAPS["primes"], torch.float32, device)

    def doubled(y, *others, stride):
        return gated_broadcast_add(2 * y, *others, stride=stride).sin()

    results = sum_and_gradients(torch.compile(doubled, fullgraph=True), inputs)
    for result, like in zip(results, sum_and_gradients(doubled, inputs), strict=True):
        torch.testing.assert_close(result, like)
