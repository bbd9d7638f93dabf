"""pumlc.ops.pu_loss against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

from functools import partial

import torch

from bench.timing import Report, Row, copy_bandwidth, peak_memory, time_graph, time_in_turn, time_launches
from pumlc.ops import pu_loss, reference
from tests.cases import assert_as_exact_as_eager

# rows, classes, positives per row: the COCO recipe on one GPU, a large COCO batch, OpenImages
SHAPES = ((35, 80, 2.9), (256, 80, 2.9), (1024, 9605, 8.0))
L2_BYTES = 64 << 20


def make_inputs(rows: int, classes: int, positives: float, dtype: torch.dtype, device: torch.device):
    """logits [B, C] and labels [B, C] int8 as in training: most logits negative, few positives."""
    logits = (torch.randn(rows, classes, device=device) * 2 - 2).to(dtype)
    labels = (torch.rand(rows, classes, device=device) < positives / classes).to(torch.int8)
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
    device = report.device
    ceiling = copy_bandwidth(device)
    print(f"# device copy: {ceiling / 1e9:.0f} GB/s")
    compiled = torch.compile(reference.pu_loss, dynamic=False)
    providers = {"eager": reference.pu_loss, "compile": compiled, "pumlc": pu_loss}
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    for rows, classes, positives in SHAPES:
        for dtype in dtypes:
            torch.manual_seed(0)
            elements = rows * classes
            copies = max(2, -(-2 * L2_BYTES // (elements * dtype.itemsize))) if device.type == "cuda" else 1
            inputs = [make_inputs(rows, classes, positives, dtype, device) for _ in range(min(copies, 64))]
            prove_equal(*inputs[0], providers)
            for passes, wrap in (("forward", forward), ("forward+backward", forward_and_backward)):
                functions = {name: wrap(function) for name, function in providers.items()}
                if device.type == "cuda":
                    timings = {name: time_graph(function, inputs) for name, function in functions.items()}
                else:
                    timings = time_in_turn({name: partial(f, *inputs[0]) for name, f in functions.items()})
                # read logits and labels; backward: also write the gradient
                moved = elements * (dtype.itemsize + 1 + (dtype.itemsize if passes != "forward" else 0))
                for name, timing in timings.items():
                    on_gpu = device.type == "cuda"
                    report.add(
                        Row(
                            op="pu_loss",
                            shape=f"{rows}x{classes}",
                            dtype=str(dtype).removeprefix("torch."),
                            passes=passes,
                            provider=name,
                            microseconds=timing.median * 1e6,
                            spread=timing.spread,
                            gigabytes_per_second=moved / timing.median / 1e9,
                            share_of_copy=moved / timing.median / ceiling,
                            times_eager=timings["eager"].median / timing.median,
                            times_compiled=timings["compile"].median / timing.median,
                            peak_bytes=peak_memory(functions[name], inputs[0]) if on_gpu else None,
                            launch_microseconds=time_launches(functions[name], inputs).median * 1e6 if on_gpu else None,
                        )
                    )
