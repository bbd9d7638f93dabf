"""The depthwise operators against their specification in pumlc.ops.reference."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys

import pytest
import torch

from pumlc.ops import depthwise_conv2d, depthwise_local_global, reference
from tests.cases import DTYPES, assert_as_exact_as_eager, assert_same_bits, assert_same_bits_on_any_number_of_threads
from tests.depthwise_cases import CASES, DepthwiseCase
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

OPS = {
    "conv2d": (depthwise_conv2d, reference.depthwise_conv2d, 2),
    "local_global": (depthwise_local_global, reference.depthwise_local_global, 6),
}
"""The operator, its specification, and how many tensors of a case it takes."""
NAMED = {case.name: case for case in CASES}


def outputs(function, tensors, dy, stride):
    """The output and the gradient of every input."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    y = function(*tensors, stride=stride)
    return [y.detach(), *torch.autograd.grad(y, tensors, dy)]


def test_values_worked_out_by_hand(device):
    x = torch.arange(1.0, 10.0, device=device).reshape(1, 1, 3, 3)
    weight = torch.arange(9.0, device=device).reshape(1, 1, 3, 3)
    y = depthwise_conv2d(x, weight)
    assert y[0, 0, 1, 1] == sum((i + 1) * i for i in range(9))
    assert y[0, 0, 0, 0] == 4 * 1 + 5 * 2 + 7 * 4 + 8 * 5
    sampled = depthwise_local_global(
        *(x, weight, torch.full((1, 1), 2.0, device=device), torch.zeros_like(x)),
        *(torch.tensor([10.0], device=device), torch.tensor([0.5], device=device)),
        stride=2,
    )
    assert sampled[0, 0, 0, 0] == y[0, 0, 0, 0] + 10 * 1 + 0.5 * 2 + 0.5
    assert sampled.shape == (1, 1, 2, 2)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_as_exact_as_eager(case: DepthwiseCase, dtype, op, device):
    function, specification, count = OPS[op]
    *tensors, dy = case(dtype, device)
    tensors = tensors[:count]
    result = outputs(function, tensors, dy, case.stride)
    eager = outputs(specification, tensors, dy, case.stride)
    truth = outputs(specification, [tensor.double() for tensor in tensors], dy.double(), case.stride)
    assert result[0].is_contiguous(memory_format=torch.channels_last)
    for one, expected, true in zip(result, eager, truth, strict=True):
        assert one.dtype == dtype
        assert_as_exact_as_eager(one, expected, true)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_parameters_of_another_dtype_are_as_exact(dtype, device):
    case = NAMED["even with stride 2"]
    x, weight, context, gates, centre, shift, dy = case(dtype, device)
    tensors = [x, weight.float(), context.float(), gates, centre.float(), shift.float()]
    result = outputs(depthwise_local_global, tensors, dy, case.stride)
    eager = outputs(reference.depthwise_local_global, tensors, dy, case.stride)
    truth = outputs(reference.depthwise_local_global, [t.double() for t in tensors], dy.double(), case.stride)
    for one, expected, true in zip(result, eager, truth, strict=True):
        assert one.dtype == expected.dtype
        assert_as_exact_as_eager(one, expected, true)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (4,), (0, 3), (1, 5)], ids=str)
def test_gradients_of_some_inputs_alone_are_exact(needed, device):
    case = NAMED["heads within a vector"]
    *tensors, dy = case(torch.float32, device)
    expected = outputs(depthwise_local_global, tensors, dy, case.stride)
    tensors = [tensor.detach().requires_grad_(i in needed) for i, tensor in enumerate(tensors)]
    y = depthwise_local_global(*tensors, stride=case.stride)
    for i, gradient in zip(needed, torch.autograd.grad(y, [tensors[i] for i in needed], dy), strict=True):
        assert torch.equal(gradient, expected[1 + i])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (7, 1), (7, 2)])
def test_gradcheck(kernel, stride, op, device):
    function, _, count = OPS[op]
    *tensors, _ = DepthwiseCase("gradcheck", (2, 4, 5, 4), kernel, stride, 2)(torch.float64, device)
    tensors = [tensor.requires_grad_() for tensor in tensors[:count]]
    assert torch.autograd.gradcheck(lambda *t: function(*t, stride=stride), tensors)


@pytest.mark.parametrize("op", OPS)
def test_second_derivative_is_a_clear_error(op, device):
    function, _, count = OPS[op]
    *tensors, _ = NAMED["primes"](torch.float32, device)
    y = function(tensors[0].requires_grad_(), *tensors[1:count])
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(y.sum(), tensors[0], create_graph=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("channels", [5, 32])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (7, 1)])
def test_what_is_not_finite_stays_in_its_neighbourhood(value, channels, kernel, stride, device):
    x = torch.randn(2, channels, 17, 18, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(channels, 1, kernel, kernel, device=device) + 0.5
    x[1, 3, 7, 16] = value
    expected = torch.zeros_like(x)
    expected[1, 3, 7, 16] = 1
    reached = reference.depthwise_conv2d(expected, torch.ones_like(weight), stride=stride) > 0
    assert torch.equal(~depthwise_conv2d(x, weight, stride=stride).isfinite(), reached)


@pytest.mark.parametrize("name", ["odd with stride 2", "tail of channels", "batch of three"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    case = NAMED[name]
    *tensors, dy = case(torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: outputs(depthwise_local_global, tensors, dy, case.stride))


MAP, WEIGHT = torch.zeros(2, 6, 5, 4), torch.zeros(6, 1, 3, 3)


@pytest.mark.parametrize(
    ("x", "weight", "stride", "error", "message"),
    [
        (MAP[0], WEIGHT, 1, ValueError, r"x: got shape \[6, 5, 4\], wanted \[B, C, H, W\] with at least one"),
        (MAP[:, :0], WEIGHT[:0], 1, ValueError, r"x: got shape \[2, 0, 5, 4\]"),
        (MAP.int(), WEIGHT, 1, TypeError, "x: got dtype Int, wanted float64, float32, bfloat16 or float16"),
        (MAP, WEIGHT[..., :2, :2], 1, ValueError, r"weight: got shape \[6, 1, 2, 2\], .* K of 3, 5 or 7"),
        (MAP, WEIGHT[:5], 1, ValueError, r"weight: got shape \[5, 1, 3, 3\], wanted \[6, 1, 3, 3\]"),
        (MAP, WEIGHT.int(), 1, TypeError, "weight: got dtype Int"),
        (MAP, WEIGHT, 3, ValueError, "stride: got 3, wanted 1 or 2"),
    ],
)
def test_bad_arguments_are_named(x, weight, stride, error, message, device):
    with pytest.raises(error, match=message):
        depthwise_conv2d(x.to(device), weight.to(device), stride=stride)


@pytest.mark.parametrize(
    ("position", "tensor", "error", "message"),
    [
        (2, torch.zeros(2, 5), ValueError, r"context: got shape \[2, 5\], wanted \[2, 6\]"),
        (3, torch.zeros(2, 4, 5, 4), ValueError, "gate_scores: got 4 heads, wanted .* divides .* x, 6"),
        (3, torch.zeros(2, 3, 3, 2), ValueError, r"gate_scores: got shape \[2, 3, 3, 2\], wanted \[2, 3, 5, 4\]"),
        (3, torch.zeros(2, 3, 5, 4).double(), TypeError, "gate_scores: got dtype Double, wanted Float"),
        (4, torch.zeros(6, 1), ValueError, r"centre: got shape \[6, 1\], wanted \[6\]"),
        (5, torch.zeros(7), ValueError, r"shift: got shape \[7\], wanted \[6\]"),
    ],
)
def test_bad_global_arguments_are_named(position, tensor, error, message, device):
    arguments = [MAP, WEIGHT, torch.zeros(2, 6), torch.zeros(2, 3, 5, 4), torch.zeros(6), torch.zeros(6)]
    arguments[position] = tensor
    with pytest.raises(error, match=message):
        depthwise_local_global(*(argument.to(device) for argument in arguments))


@pytest.mark.parametrize("name", ["primes", "even with stride 2"])
def test_opcheck(name, device):
    case = NAMED[name]
    *tensors, dy = case(torch.float32, device)
    op = torch.ops.pumlc
    for arguments in (tensors, [*tensors[:2], None, None, None, None]):
        for requires_grad in (False, True):
            inputs = [t if t is None else t.detach().requires_grad_(requires_grad) for t in arguments]
            torch.library.opcheck(op.depthwise.default, (*inputs, case.stride))
        for needs in ((True, True, True), (True, False, False), (False, True, False)):
            torch.library.opcheck(op.depthwise_backward.default, (dy, *arguments, case.stride, *needs))


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_compiles_to_one_graph(op, device):
    function, _, count = OPS[op]
    case = NAMED["even with stride 2"]
    *tensors, dy = case(torch.float32, device)
    tensors = tensors[:count]
    compiled = torch.compile(lambda *t, stride: function(*t, stride=stride) * 2, fullgraph=True)
    result = outputs(compiled, tensors, dy, case.stride)
    expected = outputs(lambda *t, stride: function(*t, stride=stride) * 2, tensors, dy, case.stride)
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="this processor has one table of kernels")
@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_gives_the_same(instruction_set):
    environment = {**os.environ, "PUMLC_CPU_ISA": instruction_set}
    ask = [sys.executable, "-c", "import pumlc; print(pumlc.build_info()['cpu_instruction_set'])"]
    chosen = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    if chosen != instruction_set:
        pytest.skip(f"this processor has no {instruction_set}: it falls back to {chosen}")
    tests = [__file__, "-k", "exact and cpu", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run([sys.executable, "-m", "pytest", *tests], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout


@pytest.mark.parametrize("multiprocessors", [1, 16, H200[0]])
@pytest.mark.parametrize("name", ["primes", "heads across vectors", "odd with stride 2", "batch of three"])
def test_any_order_of_threads_gives_the_same_bits(name, multiprocessors, emulated):
    case = NAMED[name]
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, order=order):
            *tensors, dy = case(torch.float32, "cpu")
            results.append(outputs(depthwise_local_global, tensors, dy, case.stride))
    assert_same_bits(results)
