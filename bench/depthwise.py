"""The depthwise operators against torch's convolution, forward and forward + backward.

``eager`` is the better layout's time of torch.nn.functional.conv2d with as many groups as channels, and of cuDNN's and
torch's own kernels on a GPU; the providers named beside it tell which is which.

Maps come from memory on a CPU, too, as those of a network do: calls take turns on more of them than a cache holds. One
map again and again says little: whether its output finds a place in the cache depends on the heap's history.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.counts import DTYPE_BYTES, FORWARD, FORWARD_AND_BACKWARD, OPERATORS, DepthwiseShape
from bench.providers import copies_to_leave_the_cache, on_gpu, time_all
from bench.timing import Report, Row, Timing, copy_bandwidth, time_in_turn
from pumlc.engine.host_memory import keep_freed_memory
from pumlc.ops import depthwise_conv2d, reference
from tests.cases import assert_as_exact_as_eager

OPERATOR = OPERATORS["depthwise_conv2d"]
CPU_BATCH = 4
"""Images on a CPU, where those of the shapes would take minutes."""
Inputs = tuple[Tensor, Tensor, Tensor]
"""x [B, C, H, W] in channels_last, weight [C, 1, K, K], the gradient of the output."""


def make_inputs(shape: DepthwiseShape, dtype: torch.dtype, device: torch.device | str) -> Inputs:
    size = (shape.batch, shape.channels, shape.size, shape.size)
    out = (shape.batch, shape.channels, shape.out_size, shape.out_size)
    x, dy = (torch.randn(s, device=device).to(dtype, memory_format=torch.channels_last) for s in (size, out))
    weight = torch.randn(shape.channels, 1, shape.kernel, shape.kernel, device=device).to(dtype) / shape.kernel
    return x.requires_grad_(), weight.requires_grad_(), dy


def as_contiguous(inputs: Inputs) -> Inputs:
    """The same values, channels first in memory."""
    x, weight, dy = inputs
    return x.detach().contiguous().requires_grad_(), weight, dy.contiguous()


def forward(function: Callable) -> Callable:
    def run(x, weight, dy):
        with torch.no_grad():
            return function(x, weight)

    return run


def forward_and_backward(function: Callable) -> Callable:
    def run(x, weight, dy):
        return torch.autograd.grad(function(x, weight), (x, weight), dy)

    return run


def with_kernel(function: Callable, kernel: str) -> Callable:
    """On a GPU: with cuDNN's search on, and its depthwise kernels or torch's own."""

    def run(*arguments):
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, depthwise_kernel=kernel):
            return function(*arguments)

    return run


def providers(stride: int, device: torch.device) -> dict[str, tuple[Callable, bool]]:
    """Functions of x and weight, and whether they are given x in channels_last."""
    torch_conv = partial(reference.depthwise_conv2d, stride=stride)
    found = {"channels_last": (torch_conv, True), "contiguous": (torch_conv, False)}
    if device.type == "cuda":
        for kernel in ("cudnn", "native"):
            # older versions of torch have no such choice
            with contextlib.suppress(TypeError), torch.backends.cudnn.flags(enabled=True, depthwise_kernel=kernel):
                found[kernel] = (with_kernel(torch_conv, kernel), True)
    found["compile"] = (torch.compile(torch_conv, dynamic=False), True)
    found["pumlc"] = (partial(depthwise_conv2d, stride=stride), True)
    return found


def prove_equal(inputs: Inputs, functions: dict[str, tuple[Callable, bool]], stride: int) -> None:
    """Output and gradients of every provider against the reference in float64."""

    def results(function: Callable, x: Tensor, weight: Tensor, dy: Tensor) -> list[Tensor]:
        y = function(x, weight)
        return [y.detach(), *torch.autograd.grad(y, (x, weight), dy)]

    double = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    torch_conv = partial(reference.depthwise_conv2d, stride=stride)
    truth = results(torch_conv, *double)
    eager = results(torch_conv, *inputs)
    for one, expected, true in zip(results(functions["pumlc"][0], *inputs), eager, truth, strict=True):
        assert_as_exact_as_eager(one, expected, true)


def run(report: Report) -> None:
    """Prove and measure every shape and dtype; on a CPU float32 alone, and the process keeps its memory after it."""
    if report.device.type == "cpu":
        keep_freed_memory()  # as in training; else pages are cleared for some outputs and not for others
    ceiling = copy_bandwidth(report.device)
    for shape in OPERATOR.shapes:
        for dtype in DTYPE_BYTES if report.device.type == "cuda" else ("float32",):
            own = shape if report.device.type == "cuda" else shape._replace(batch=CPU_BATCH)
            measure(report, own, dtype, ceiling)


def measure(report: Report, shape: DepthwiseShape, dtype: str, ceiling: float) -> None:
    """Add the rows of one shape and dtype; ``ceiling``: bytes per second of a copy."""
    torch.compiler.reset()  # it goes on without compiling after eight versions of one function
    torch.manual_seed(0)
    map_bytes = shape.batch * shape.channels * shape.size**2 * DTYPE_BYTES[dtype]
    is_gpu = report.device.type == "cuda"
    copies = copies_to_leave_the_cache(map_bytes)
    inputs = [make_inputs(shape, getattr(torch, dtype), report.device) for _ in range(copies)]
    contiguous = [as_contiguous(one) for one in inputs]
    functions = providers(shape.stride, report.device)
    prove_equal(inputs[0], functions, shape.stride)
    for passes, wrap in ((FORWARD, forward), (FORWARD_AND_BACKWARD, forward_and_backward)):
        calls = {name: wrap(function) for name, (function, _) in functions.items()}
        timings = time_providers(calls, functions, inputs, contiguous, report.device)
        best = min(timings[name].median for name in timings if name not in ("compile", "pumlc"))
        moved = OPERATOR.count(shape, DTYPE_BYTES[dtype], passes).bytes
        for name, timing in timings.items():
            report.add(
                Row(
                    op="depthwise_conv2d",
                    shape=str(shape),
                    dtype=dtype,
                    passes=passes,
                    provider=name,
                    microseconds=timing.median * 1e6,
                    spread=timing.spread,
                    gigabytes_per_second=moved / timing.median / 1e9,
                    share_of_copy=moved / timing.median / ceiling,
                    times_eager=best / timing.median,
                    times_compiled=timings["compile"].median / timing.median,
                    **(on_gpu(calls[name], inputs if functions[name][1] else contiguous) if is_gpu else {}),
                )
            )


def time_providers(
    calls: dict[str, Callable],
    functions: dict[str, tuple[Callable, bool]],
    inputs: list[Inputs],
    contiguous: list[Inputs],
    device: torch.device,
) -> dict[str, Timing]:
    """Each provider on maps of its layout."""
    own_inputs = {name: inputs if functions[name][1] else contiguous for name in calls}
    if device.type == "cuda":
        return {name: time_all({name: call}, own_inputs[name], device)[name] for name, call in calls.items()}
    return time_in_turn({name: on_each_in_turn(call, own_inputs[name]) for name, call in calls.items()})


def on_each_in_turn(function: Callable, inputs: list[Inputs]) -> Callable[[], object]:
    """A function without arguments that takes the next of the inputs at each call."""
    turn = itertools.cycle(inputs)
    return lambda: function(*next(turn))
