"""Measuring: providers of the same result in turn, medians and their spread, and one row per provider.

On a CPU, providers run A B C A B C in one process, for machines are noisy and only ratios in one run mean
anything. On a GPU, each provider is captured in a CUDA graph over inputs that together exceed the L2 cache, so
that what is timed is the device and cold memory; what a user feels, launches included, is timed apart.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from pumlc import build_info

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Timing:
    """Seconds per call."""

    median: float
    spread: float
    """Half the distance between the quartiles, as a share of the median."""

    @classmethod
    def of(cls, samples: Sequence[float]) -> Timing:
        median = statistics.median(samples)
        low, _, high = statistics.quantiles(samples, n=4)
        return cls(median, (high - low) / 2 / median)


def time_in_turn(providers: dict[str, Callable[[], object]], *, rounds: int = 15, seconds: float = 0.05):
    """Wall time of each provider on the CPU.

    Args:
        providers: functions without arguments.
        rounds: how often the turn goes round; a sample per provider and round.
        seconds: least time of one sample; short functions are called several times for it.

    Returns:
        Timing per provider.
    """
    calls = {}
    for name, function in providers.items():
        for _ in range(3):
            function()
        start = time.perf_counter()
        function()
        calls[name] = max(1, round(seconds / (time.perf_counter() - start)))
    samples = {name: [] for name in providers}
    for _ in range(rounds):
        for name, function in providers.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                function()
            samples[name].append((time.perf_counter() - start) / calls[name])
    return {name: Timing.of(values) for name, values in samples.items()}


def time_graph(function: Callable, inputs: Sequence[tuple], *, rounds: int = 25) -> Timing:
    """Device time of one call of ``function(*inputs[i])``, captured in a CUDA graph over all inputs in turn."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for arguments in inputs:
            function(*arguments)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [function(*arguments) for arguments in inputs]
    graph.replay()
    samples = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        samples.append(start.elapsed_time(end) * 1e-3 / len(inputs))
    del kept
    return Timing.of(samples)


def time_launches(function: Callable, inputs: Sequence[tuple], *, rounds: int = 15, calls: int = 50) -> Timing:
    """Wall time of one call on a GPU as a user feels it: launches included, one wait at the end of each sample."""
    samples = []
    for round_ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for i in range(calls):
            function(*inputs[i % len(inputs)])
        torch.cuda.synchronize()
        if round_ > 0:  # the first warms up
            samples.append((time.perf_counter() - start) / calls)
    return Timing.of(samples)


def peak_memory(function: Callable, arguments: tuple) -> int:
    """Bytes that a call on a GPU needs beyond what was allocated before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function(*arguments)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def copy_bandwidth(device: torch.device, size: int = 1 << 29) -> float:
    """Bytes per second, read and written, of the largest copy that a device does: the ceiling of a kernel."""
    source = torch.empty(size if device.type == "cuda" else size // 4, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    if device.type == "cuda":
        timing = time_graph(target.copy_, [(source,)])
    else:
        timing = time_in_turn({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.numel() / timing.median


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # processors of one model name differ in what they can do: the kernels that run here and the family name it
    kernels = build_info()["cpu_instruction_set"]
    return f"{processor_name()}, {kernels}, {torch.get_num_threads()} threads"


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The model that Linux names, with the family where it names one (AMD EPYC: 25 is Zen 3 and 4, 26 is Zen 5), or
    else the kind of machine."""
    text = cpuinfo.read_text() if platform.system() == "Linux" else ""
    model, family = (re.search(rf"^{key}\s*: (.+)", text, re.MULTILINE) for key in ("model name", "cpu family"))
    if model is None:
        return platform.machine()
    return f"{model[1]} (family {family[1]})" if family else model[1]


def append_rows(path: Path, device: torch.device, rows: Iterable[dict]) -> None:
    """Add rows to a results file, each with the machine, the versions and the date."""
    machine = {
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "date": time.strftime("%Y-%m-%d"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(machine | row) + "\n" for row in rows)


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table and of its results file."""

    op: str
    shape: str
    dtype: str
    passes: str
    provider: str
    microseconds: float
    spread: float
    gigabytes_per_second: float | None = None
    """Bytes that the algorithm must move (each input read once, each output written once), over the time."""
    share_of_copy: float | None = None
    times_eager: float | None = None
    """How many times faster than the eager reference."""
    times_compiled: float | None = None
    """How many times faster than torch.compile of the reference."""
    peak_bytes: int | None = None
    launch_microseconds: float | None = None
    """Wall time per call on a GPU, launches included."""


@dataclass
class Report:
    """Rows of one run: printed as they come, and appended to a results file with the machine and the versions."""

    device: torch.device
    path: Path | None = None
    rows: list[Row] = field(default_factory=list)
    _FORMAT = "{:<21}{:<14}{:<10}{:<18}{:<10}{:>11}{:>8}{:>8}{:>7}{:>8}{:>9}{:>8}{:>9}"

    def add(self, row: Row) -> None:
        if not self.rows:
            print(f"# {device_name(self.device)}, torch {torch.__version__}")
            head = ["op", "shape", "dtype", "passes", "provider", "us", "spread", "GB/s", "%copy", "xeager", "xcompile"]
            print(self._FORMAT.format(*head, "peakMB", "wall_us"))
        self.rows.append(row)
        texts = [
            _text(row.microseconds, ".1f"),
            _text(row.spread, ".1%"),
            _text(row.gigabytes_per_second, ".1f"),
            _text(row.share_of_copy, ".0%"),
            _text(row.times_eager, ".1f"),
            _text(row.times_compiled, ".1f"),
            _text(None if row.peak_bytes is None else row.peak_bytes / 1e6, ".1f"),
            _text(row.launch_microseconds, ".1f"),
        ]
        print(self._FORMAT.format(row.op, row.shape, row.dtype, row.passes, row.provider, *texts), flush=True)
        if self.path is not None:
            append_rows(self.path, self.device, [asdict(row)])


def results_path(device: torch.device) -> Path:
    """bench/results/<device>.jsonl"""
    return RESULTS / (re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-") + ".jsonl")


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
