"""pumlc.ops.pu_loss against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

from functools import partial

import torch

from bench.counts import DTYPE_BYTES, FORWARD, FORWARD_AND_BACKWARD, OPERATORS, PuLossShape
from bench.timing import Report, Row, Timing, copy_bandwidth, peak_memory, time_graph, time_in_turn, time_launches
from pumlc.ops import pu_loss, reference
from tests.cases import assert_as_exact_as_eager

OPERATOR = OPERATORS["pu_loss"]
L2_BYTES = 64 << 20
MOST_COPIES = (
    64  # small shapes stay in the cache: they are bound by the launch, and a longer graph takes longer to make
)


def make_inputs(shape: PuLossShape, dtype: torch.dtype, device: torch.device | str):
    """logits [B, C] and labels [B, C] int8 as in training: most logits negative, few positives."""
    size = (shape.rows, shape.classes)
    logits = (torch.randn(size, device=device) * 2 - 2).to(dtype)
    labels = (torch.rand(size, device=device) < shape.positives / shape.classes).to(torch.int8)
    return logits.requires_grad_(), labels


def forward(function):
    def run(logits, labels):
        with torch.no_grad():
            return function(logits.detach(), labels)

    return run


def forward_and_backward(function):
    def run(logits, labels):
        return torch.autograd.grad(function(logits, labels), logits)

    return run


def prove_equal(logits: torch.Tensor, labels: torch.Tensor, providers: dict) -> None:
    """Loss and gradient of every provider against the reference in float64."""
    double = logits.detach().double().requires_grad_()
    truth = reference.pu_loss(double, labels)
    (true_gradient,) = torch.autograd.grad(truth, double)
    eager = reference.pu_loss(logits, labels)
    (eager_gradient,) = torch.autograd.grad(eager, logits)
    for function in providers.values():
        loss = function(logits, labels)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert_as_exact_as_eager(loss.detach(), eager.detach(), truth.detach())
        assert_as_exact_as_eager(gradient, eager_gradient, true_gradient)


def run(report: Report) -> None:
    """Prove and measure every shape and dtype; on a CPU float32 alone."""
    ceiling = copy_bandwidth(report.device)
    print(f"# device copy: {ceiling / 1e9:.0f} GB/s")
    compiled = torch.compile(reference.pu_loss, dynamic=False)
    providers = {"eager": reference.pu_loss, "compile": compiled, "pumlc": pu_loss}
    for shape in OPERATOR.shapes:
        for dtype in DTYPE_BYTES if report.device.type == "cuda" else ("float32",):
            measure(report, shape, dtype, providers, ceiling)


def measure(report: Report, shape: PuLossShape, dtype: str, providers: dict, ceiling: float) -> None:
    """Add the rows of one shape and dtype; ``ceiling``: bytes per second of a copy."""
    torch.manual_seed(0)
    copies = copies_to_leave_the_cache(shape, dtype) if report.device.type == "cuda" else 1
    inputs = [make_inputs(shape, getattr(torch, dtype), report.device) for _ in range(copies)]
    prove_equal(*inputs[0], providers)
    for passes, wrap in ((FORWARD, forward), (FORWARD_AND_BACKWARD, forward_and_backward)):
        functions = {name: wrap(function) for name, function in providers.items()}
        timings = time_all(functions, inputs, report.device)
        moved = OPERATOR.count(shape, DTYPE_BYTES[dtype], passes).bytes
        for name, timing in timings.items():
            report.add(
                Row(
                    op="pu_loss",
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


def copies_to_leave_the_cache(shape: PuLossShape, dtype: str) -> int:
    """How many inputs are together larger than the L2 cache of a GPU, so that each is read from memory; or the most."""
    return min(MOST_COPIES, max(2, -(-2 * L2_BYTES // (shape.rows * shape.classes * DTYPE_BYTES[dtype]))))


def time_all(functions: dict, inputs: list[tuple], device: torch.device) -> dict[str, Timing]:
    if device.type == "cuda":
        return {name: time_graph(function, inputs) for name, function in functions.items()}
    return time_in_turn({name: partial(function, *inputs[0]) for name, function in functions.items()})


def on_gpu(function, inputs: list[tuple]) -> dict:
    """What only a GPU's rows hold."""
    return {
        "peak_bytes": peak_memory(function, inputs[0]),
        "launch_microseconds": time_launches(function, inputs).median * 1e6,
    }
