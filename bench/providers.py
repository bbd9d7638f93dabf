"""An operator's providers side by side: eager reference, torch.compile of it, pumlc; proven equal, then measured."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bench.counts import DTYPE_BYTES, FORWARD, FORWARD_AND_BACKWARD, Operator
from bench.timing import Report, Row, Timing, copy_bandwidth, peak_memory, time_graph, time_in_turn, time_launches
from tests.cases import assert_as_exact_as_eager

CACHE_BYTES = 64 << 20
"""No less than the L2 cache of a GPU, or what a few cores have of a processor's L3."""
MOST_COPIES = 64
"""Small shapes stay in the cache: they are bound by the launch, and a longer graph takes longer to make."""


class Benchmark(NamedTuple):
    """How an operator of tensors is measured."""

    op: str
    operator: Operator
    function: Callable
    """pumlc's: tensors -> one tensor, differentiated by those that require a gradient."""
    reference: Callable
    """The same in plain PyTorch."""
    make_inputs: Callable
    """(shape, dtype, device) -> the tensors."""


def run(report: Report, benchmark: Benchmark) -> None:
    """Prove and measure every shape and dtype; on a CPU float32 alone."""
    ceiling = copy_bandwidth(report.device)
    print(f"# device copy: {ceiling / 1e9:.0f} GB/s")
    compiled = torch.compile(benchmark.reference, dynamic=False)
    providers = {"eager": benchmark.reference, "compile": compiled, "pumlc": benchmark.function}
    for shape in benchmark.operator.shapes:
        for dtype in DTYPE_BYTES if report.device.type == "cuda" else ("float32",):
            measure(report, benchmark, shape, dtype, providers, ceiling)


def measure(report: Report, benchmark: Benchmark, shape, dtype: str, providers: dict, ceiling: float) -> None:
    """Add the rows of one shape and dtype; ``ceiling``: bytes per second of a copy."""
    torch.compiler.reset()  # it goes on without compiling after eight versions of one function
    torch.manual_seed(0)
    make = partial(benchmark.make_inputs, shape, getattr(torch, dtype), report.device)
    inputs = [make()]
    if report.device.type == "cuda":
        size = sum(tensor.nbytes for tensor in inputs[0])
        inputs += [make() for _ in range(copies_to_leave_the_cache(size) - 1)]
    out = benchmark.function(*inputs[0])
    upstream = torch.randn_like(out) if out.dim() > 0 else None
    prove_equal(inputs[0], upstream, providers)
    for passes, wrap in ((FORWARD, forward), (FORWARD_AND_BACKWARD, partial(forward_and_backward, upstream))):
        functions = {name: wrap(function) for name, function in providers.items()}
        timings = time_all(functions, inputs, report.device)
        moved = benchmark.operator.count(shape, DTYPE_BYTES[dtype], passes).bytes
        for name, timing in timings.items():
            report.add(
                Row(
                    op=benchmark.op,
                    shape=str(shape),
                    dtype=dtype,
                    passes=passes,
                    provider=name,
                    microseconds=timing.median * 1e6,
                    spread=timing.spread,
                    gigabytes_per_second=moved / timing.median / 1e9,
                    share_of_copy=moved / timing.median / ceiling,
                    times_eager=timings["eager"].median / timing.median,
                    times_compiled=timings["compile"].median / timing.median,
                    **(on_gpu(functions[name], inputs) if report.device.type == "cuda" else {}),
                )
            )


def forward(function: Callable) -> Callable:
    def run(*tensors):
        with torch.no_grad():
            return function(*tensors)

    return run


def forward_and_backward(upstream: Tensor | None, function: Callable) -> Callable:
    """upstream: the gradient that comes from above, of the shape of the output; None for a scalar."""

    def run(*tensors):
        return torch.autograd.grad(function(*tensors), [it for it in tensors if it.requires_grad], upstream)

    return run


def prove_equal(tensors: tuple[Tensor, ...], upstream: Tensor | None, providers: dict) -> None:
    """Output and gradients of every provider against the reference in float64; those of torch.compile, which may add up
    thousands of rows one after the other, need only be the same computation."""

    def results(function: Callable, tensors: tuple[Tensor, ...], upstream: Tensor | None) -> tuple[Tensor, ...]:
        out = function(*tensors)
        return out.detach(), *torch.autograd.grad(out, [it for it in tensors if it.requires_grad], upstream)

    doubles = tuple(it.detach().double().requires_grad_() if it.requires_grad else it for it in tensors)
    truth = results(providers["eager"], doubles, None if upstream is None else upstream.double())
    eager = results(providers["eager"], tensors, upstream)
    for name, function in providers.items():
        for result, like, true in zip(results(function, tensors, upstream), eager, truth, strict=True):
            if name == "compile":
                tolerance = torch.finfo(like.dtype).eps ** 0.5 * true.abs().max()
                assert (result - true).abs().max() <= tolerance, "torch.compile gives something else"
            else:
                assert_as_exact_as_eager(result, like, true)


def copies_to_leave_the_cache(size: int) -> int:
    """How many inputs of so many bytes are together larger than the last cache, so that each is read from memory; or
    MOST_COPIES."""
    return min(MOST_COPIES, max(2, -(-2 * CACHE_BYTES // size)))


def time_all(functions: dict, inputs: list[tuple], device: torch.device) -> dict[str, Timing]:
    if device.type == "cuda":
        return {name: time_graph(function, inputs) for name, function in functions.items()}
    return time_in_turn({name: partial(function, *inputs[0]) for name, function in functions.items()})


def on_gpu(function: Callable, inputs: list[tuple]) -> dict:
    """What only a GPU's rows hold."""
    return {
        "peak_bytes": peak_memory(function, inputs[0]),
        "launch_microseconds": time_launches(function, inputs).median * 1e6,
    }
