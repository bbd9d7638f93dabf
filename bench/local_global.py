"""python -m bench.local_global [--device cpu|cuda] [--no-save]: the price of a global branch beside a convolution.

Forward and backward of a plain convolution, of the module as published (eager, and through torch.compile) and of
pumlc's, at the shapes of ResNet-101 and of ConvNeXt-T at 448 pixels, BatchNorm on running statistics as in the recipe.
The price is the time of a module less that of the plain convolution; memory is the most that forward and backward
hold at one time, again less that of the plain convolution. The outputs and the gradients of the inputs are compared
first.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch: the profiler would talk between the rows

import torch
from torch import Tensor, nn

from bench.timing import Timing, append_rows, device_name, peak_memory, results_path, time_graph, time_in_turn
from pumlc.nn import LocalGlobalConv2d
from tests.nn.published import PublishedLocalGlobalConv2d

BATCH = {"cpu": 4, "cuda": 35}
PROVIDERS = ("plain", "published", "published, compiled", "pumlc")


class Shape(NamedTuple):
    channels: int
    size: int
    """Height and width of the input."""
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False

    def __str__(self) -> str:
        kind = "depthwise " if self.depthwise else ""
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        return f"{self.channels}@{self.size}x{self.size} {kind}{self.kernel}x{self.kernel}{stride}"

    def conv(self) -> nn.Conv2d:
        groups = self.channels if self.depthwise else 1
        return nn.Conv2d(
            self.channels, self.channels, self.kernel, self.stride, self.kernel // 2, groups=groups, bias=False
        )


RESNET101 = (Shape(64, 112), Shape(128, 56), Shape(256, 28), Shape(512, 14))
RESNET101 += (Shape(128, 112, stride=2), Shape(256, 56, stride=2), Shape(512, 28, stride=2))
CONVNEXT_T = tuple(Shape(*it, kernel=7, depthwise=True) for it in ((96, 112), (192, 56), (384, 28), (768, 14)))


def modules(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Every provider with the same weights, in evaluation mode, all of them trainable."""
    torch.compiler.reset()  # it goes on without compiling after eight versions of one function
    torch.manual_seed(0)
    published = PublishedLocalGlobalConv2d(shape.conv())
    nn.init.normal_(published.global_branch.norm.weight, std=0.1)
    ours = LocalGlobalConv2d(shape.conv())
    ours.load_state_dict(published.state_dict())
    found = {"plain": copy.deepcopy(published.conv), "published": published, "pumlc": ours}
    for module in found.values():
        module.eval().to(device, dtype, memory_format=torch.channels_last)
    return found | {"published, compiled": torch.compile(published, dynamic=False)}


def step(module: nn.Module, x: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    """The output and every gradient, the input's first, that a backward pass from ``gradient`` gives."""
    y = module(x)
    parameters = [p for p in module.parameters() if p.requires_grad]
    return y, *torch.autograd.grad(y, [x, *parameters], gradient)


def assert_equal(providers: dict[str, nn.Module], x: Tensor, gradient: Tensor) -> None:
    truth = step(providers["published"], x, gradient)[:2]
    for name in ("published, compiled", "pumlc"):
        for found, expected in zip(step(providers[name], x, gradient)[:2], truth, strict=True):
            error = (found - expected).norm() / expected.norm()
            assert error < 20 * torch.finfo(x.dtype).eps, f"{name}: relative error {error:.2g}"


def peak_on_cpu(function: Callable[[], object]) -> int:
    """The most bytes of tensors that a call holds at one time, beyond what there was before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(shape: Shape, device: torch.device, dtype: torch.dtype, rounds: int) -> dict:
    """The row of a shape."""
    providers = modules(shape, device, dtype)
    size = (BATCH[device.type], shape.channels, shape.size, shape.size)
    x = torch.randn(size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(providers["plain"](x).detach())
    assert_equal(providers, x, gradient)
    functions = {name: partial(step, providers[name], x, gradient) for name in PROVIDERS}
    timings: dict[str, Timing]
    if device.type == "cuda":
        timings = {name: time_graph(partial(step, providers[name]), [(x, gradient)]) for name in PROVIDERS}
        peaks = {name: peak_memory(function, ()) for name, function in functions.items()}
    else:
        timings = time_in_turn(functions, rounds=rounds)
        peaks = {name: peak_on_cpu(function) for name, function in functions.items()}
    price = {name: timings[name].median - timings["plain"].median for name in PROVIDERS[1:]}
    memory = {name: peaks[name] - peaks["plain"] for name in PROVIDERS[1:]}
    return {
        "benchmark": "local_global",
        "convolution": str(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "batch_size": BATCH[device.type],
        "microseconds": {name: timings[name].median * 1e6 for name in PROVIDERS},
        "peak_bytes": peaks,
        "price_share": price["pumlc"] / price["published"],
        "price_share_of_compiled": price["pumlc"] / price["published, compiled"],
        "memory_share": memory["pumlc"] / memory["published"],
    }


_FORMAT = "{:<32}" + "{:>11}" * 4 + "  |{:>11}{:>11}{:>11}"


def run(device: torch.device, *, save: bool, shapes: tuple[Shape, ...] = RESNET101 + CONVNEXT_T, rounds: int = 15):
    """Measure, print and append the rows of all shapes, and last the median of their shares."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    print(f"# {device_name(device)}, torch {torch.__version__}, {dtype}, batches of {BATCH[device.type]}")
    print("# milliseconds of forward + backward; price and memory of pumlc's branch as a share of the published one's")
    names = ("plain", "published", "compiled", "pumlc")
    print(_FORMAT.format("convolution", *names, "price", "of compiled", "memory"))
    rows = []
    for shape in shapes:
        rows.append(measure(shape, device, dtype, rounds))
        _show(str(shape), [f"{rows[-1]['microseconds'][name] / 1e3:.2f}" for name in PROVIDERS], rows[-1])
    shares = ("price_share", "price_share_of_compiled", "memory_share")
    median = {name: statistics.median(row[name] for row in rows) for name in shares}
    _show("median", [""] * 4, median)
    rows.append({"benchmark": "local_global", "convolution": "median", "dtype": rows[0]["dtype"], **median})
    if save:
        append_rows(results_path(device), device, rows)
        print(f"# appended to {results_path(device)}")


def _show(title: str, times: list[str], row: dict) -> None:
    shares = [f"{row[name]:.2f}" for name in ("price_share", "price_share_of_compiled", "memory_share")]
    print(_FORMAT.format(title, *times, *shares), flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.local_global", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-save", action="store_true", help="print alone; do not append to bench/results/")
    options = parser.parse_args(arguments)
    run(torch.device(options.device), save=not options.no_save)


if __name__ == "__main__":
    main()
