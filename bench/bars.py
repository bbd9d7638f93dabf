"""python -m bench.bars [FILE.jsonl ...]: the bars of bench/bars.toml beside what was measured.

Prints a line for every bar and machine: met, missed by how much, or not measured. The newest row of a kind counts.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

from bench.roofline import MACHINES
from bench.timing import RESULTS

BARS = Path(__file__).parent / "bars.toml"

TEXTS = {
    "times_eager": "{:.4g} x eager",
    "times_compiled": "{:.4g} x torch.compile",
    "times_published": "{:.4g} x the published step",
    "times_published_compiled": "{:.4g} x torch.compile of the published step",
    "share_of_copy": "{:.3g} of a copy's bandwidth",
    "microseconds": "{:.1f} us",
    "ratio": "{:.4g} x torchvision",
    "images_per_second": "{:.0f} img/s",
    "evaluation_share": "{:.2f} of the images per second of evaluation",
    "price_share": "{:.2f} of the published price",
    "memory_share": "{:.2f} of the published memory",
}
"""How a value of each metric is written."""

KIND = ("device", "benchmark", "op", "shape", "dtype", "passes", "files", "input", "backbone", "image_size")
KIND += ("recipe", "train_all", "batch_size", "precision", "convolution", "part")
"""The fields that say what a row measures; of rows that agree in them the newest counts."""


def machine_class(device: str) -> str | None:
    """cpu, or which of bench.roofline's GPUs a device name is; None for any other.

    >>> machine_class("NVIDIA H100 80GB HBM3")
    'H100'
    """
    if device.endswith(" threads"):  # as bench.timing.device_name writes a CPU
        return "cpu"
    return next((name for name in MACHINES if re.search(rf"\b{name}\b", device)), None)


@dataclass(frozen=True)
class Bar:
    """One entry of bars.toml."""

    machines: tuple[str, ...]
    row: dict[str, Any]
    metric: str
    why: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        unknown = set(self.machines) - {"cpu", *MACHINES}
        if unknown or self.metric not in TEXTS or (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                f"{BARS}: {self}: wanted machines of cpu, {', '.join(MACHINES)}, a metric of {', '.join(TEXTS)}, "
                "and either at_least or at_most"
            )

    @property
    def wanted(self) -> str:
        """The bar in words, such as ``>= 5 x eager``."""
        sign, value = (">=", self.at_least) if self.at_most is None else ("<=", self.at_most)
        return f"{sign} {TEXTS[self.metric].format(value)}"

    @property
    def subject(self) -> str:
        """What is measured, from the fields that its rows are found by."""
        return " ".join(
            str(value) if not isinstance(value, bool) else (name if value else f"not {name}")
            for name, value in self.row.items()
        )

    def is_for(self, row: dict) -> bool:
        return (
            row.get("provider", "pumlc") == "pumlc"
            and all(row.get(name) == value for name, value in self.row.items())
            and machine_class(row["device"]) in self.machines
            and row.get(self.metric) is not None
        )

    def is_met(self, row: dict) -> bool:
        value = row[self.metric]
        return value >= self.at_least if self.at_most is None else value <= self.at_most

    def verdict(self, row: dict) -> str:
        return "met" if self.is_met(row) else "missed"


def load(path: Path = BARS) -> tuple[Bar, ...]:
    """The bars of a file, in its order; TypeError or ValueError for an entry that is not one."""
    entries = tomllib.loads(path.read_text())["bar"]
    return tuple(Bar(tuple(entry.pop("machines")), **entry) for entry in entries)


def read_rows(path: Path) -> list[dict]:
    """The rows of a results file, in the order they were measured."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def newest(rows: Iterable[dict]) -> list[dict]:
    """The last row of each kind."""
    return list({tuple(row.get(field) for field in (*KIND, "provider")): row for row in rows}.values())


def measured(paths: Iterable[Path] | None = None) -> list[dict]:
    """The newest rows of results files (by default all that hold a device)."""
    paths = sorted(RESULTS.glob("*.jsonl")) if paths is None else paths
    return newest(row for path in paths for row in read_rows(path) if "device" in row)


def missed(rows: Iterable[dict], bars: Sequence[Bar]) -> list[Bar]:
    """The bars that some row misses."""
    rows = list(rows)
    return [bar for bar in bars if any(bar.is_for(row) and not bar.is_met(row) for row in rows)]


def table(rows: Sequence[dict], bars: Sequence[Bar], machines: Sequence[str | None] | None = None) -> str:
    """A line for each bar and row, or for a bar and class of machine without one; of ``machines`` alone if given."""
    lines = [("what", "bar", "machine", "measured", "")]
    for bar in bars:
        for machine in (machine for machine in bar.machines if machines is None or machine in machines):
            found = [row for row in rows if bar.is_for(row) and machine_class(row["device"]) == machine]
            lines += [
                (_subject(bar, row), bar.wanted, row["device"], _value(bar, row), bar.verdict(row)) for row in found
            ]
            if not found:
                lines.append((bar.subject, bar.wanted, machine, "-", "not measured"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _subject(bar: Bar, row: dict) -> str:
    """With what tells apart several rows of one bar: the shape, the files, the source and size of the batches."""
    names = ("shape", "files", "input", "convolution")
    details = [(row.get(name), "{}") for name in names if name not in bar.row]
    details.append((row.get("batch_size"), "batches of {}"))
    return ", ".join([bar.subject, *(text.format(value) for value, text in details if value is not None)])


def _value(bar: Bar, row: dict) -> str:
    return TEXTS[bar.metric].format(row[bar.metric])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bars", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="results files (default: all of bench/results/)")
    options = parser.parse_args(arguments)
    print(table(measured(options.files or None), load()))


if __name__ == "__main__":
    main()
