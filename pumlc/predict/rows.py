"""How predictions are written: a row for every picture, as soon as it is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

import numpy as np

from pumlc.engine.console import one_line

DIGITS = 6
"""Of the probabilities in CSV and JSON lines, leading zeros not counted."""


class Row(NamedTuple):
    """One picture: its probabilities [C] float64, or the reason why there are none."""

    image: str
    probabilities: np.ndarray | None
    error: str | None


class Writer:
    """Writes rows one after the other.

    Args:
        file: text goes there.
        class_names: C.
        thresholds: [C] float64, the probability from which on a class is said to be there.
    """

    def __init__(self, file: TextIO, class_names: Sequence[str], thresholds: np.ndarray) -> None:
        self.file, self.class_names, self.thresholds = file, class_names, thresholds

    def begin(self) -> None:
        """Write what comes before the first row."""

    def write(self, row: Row) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Write what comes after the last row."""

    def shown(self, probabilities: np.ndarray) -> list[int]:
        """The classes that are there, most probable first."""
        there = np.flatnonzero(probabilities >= self.thresholds)
        return there[np.argsort(-probabilities[there], kind="stable")].tolist()

    def labels(self, probabilities: np.ndarray) -> list[str]:
        """Their names."""
        return [self.class_names[c] for c in self.shown(probabilities)]


class Text(Writer):
    """A line to read."""

    def write(self, row: Row) -> None:
        self.file.write(f"{one_line(row.image)}: {self._said(row)}\n")

    def _said(self, row: Row) -> str:
        if row.probabilities is None:
            return f"error: the file {row.error}"
        if shown := self.shown(row.probabilities):
            return ", ".join(f"{one_line(self.class_names[c])} {row.probabilities[c]:.3f}" for c in shown)
        most = int(row.probabilities.argmax())
        wanted = np.unique(self.thresholds)
        above = f"nothing above {wanted[0]:g}" if len(wanted) == 1 else "no class above its threshold"
        return f"{above} (most: {one_line(self.class_names[most])} {row.probabilities[most]:.3f})"


class Csv(Writer):
    """Columns ``image``, ``error``, ``labels`` (separated by ``|``), and one for every class."""

    def begin(self) -> None:
        self._csv = csv.writer(self.file, lineterminator="\n")
        self._csv.writerow(["image", "error", "labels", *self.class_names])

    def write(self, row: Row) -> None:
        if row.probabilities is None:
            self._csv.writerow([row.image, row.error, "", *[""] * len(self.class_names)])
            return
        labels = "|".join(self.labels(row.probabilities))
        self._csv.writerow([row.image, "", labels, *(f"{p:.{DIGITS}g}" for p in row.probabilities.tolist())])


class JsonLines(Writer):
    """An object a line: ``image``, then ``labels`` and ``classes``, or ``error``."""

    def write(self, row: Row) -> None:
        self.file.write(json.dumps(self._object(row)) + "\n")

    def _object(self, row: Row) -> dict[str, object]:
        if row.probabilities is None:
            return {"image": row.image, "error": row.error}
        values = (float(f"{p:.{DIGITS}g}") for p in row.probabilities.tolist())
        classes = dict(zip(self.class_names, values, strict=True))
        return {"image": row.image, "labels": self.labels(row.probabilities), "classes": classes}


class JsonList(JsonLines):
    """One JSON list of such objects."""

    def begin(self) -> None:
        self._before = "[\n  "

    def write(self, row: Row) -> None:
        lines = json.dumps(self._object(row), indent=2).splitlines()
        self.file.write(self._before + "\n  ".join(lines))
        self._before = ",\n  "

    def end(self) -> None:
        self.file.write("\n]\n")


FORMATS: dict[str, Callable[[TextIO, Sequence[str], np.ndarray], Writer]] = {
    "text": Text,
    "csv": Csv,
    "jsonl": JsonLines,
    "json": JsonList,
}
