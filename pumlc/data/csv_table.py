"""CSV: one table with a row per image and a column per class, for one's own data."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pumlc.data.dataset import Dataset, check_files, open_csv
from pumlc.errors import InputError

SPLITS = ("train", "val", "test")
VALUES = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1, "": None}  # with .0 as pandas may write them
WORDS = frozenset({"true", "false", "yes", "no", "y", "n", "t", "f", "x", "positive", "negative", "none", "nan", "?"})


def read_csv(root: str | os.PathLike) -> dict[str, Dataset]:
    """Read every split of a table ``image,split,<class>…``.

    ``root`` is the file, or the folder with ``labels.csv``. Images are named relative to the folder of the file;
    ``split`` is train, val or test. A field may be quoted and hold commas and line ends.

    **Values** are 1 for positive, -1 for negative and empty for unknown. What 0 means depends on the file: if any
    class holds -1 anywhere, 0 is unknown, as in the label matrix; if none does, the file is a plain 0/1 table and
    0 is negative. Which of the two was read stands in ``Dataset.notes``.

    **Classes** are all columns but image and split, in the order of the file, except notes. A note is a column
    whose name begins with ``#``, or one that is plainly text: it has values, and none of them is a label or could
    be a mistaken one (any number, or a word like yes, true, x). So a caption is left out, and named in
    ``Dataset.notes``, while a class with a wrong value in it is an error.

    Raises:
        InputError: names the line and column of what cannot be used.
    """
    path = Path(root)
    path = path / "labels.csv" if path.is_dir() else path
    table = _Table.read(path)
    class_names = tuple(name for name in table.columns if _is_class(name, [row[name] for row in table.cells]))
    if not class_names:
        raise InputError(f"{path} has no class columns beside image and split; wanted image,split,<class>,...")
    labels, zeros = _labels(table, class_names)
    left_out = [name for name in table.columns if name not in class_names]
    notes = (zeros, *([f"Columns left out as notes: {', '.join(left_out)}."] if left_out else []))
    check_files(table.images, path, lambda row: f"line {table.lines[row]}")
    found = {}
    for split in SPLITS:
        rows = [row for row, name in enumerate(table.splits) if name == split]
        if rows:
            images = tuple(table.images[row] for row in rows)
            found[split] = Dataset("csv", split, images, labels[rows], class_names, notes)
    return found


def load_csv(root: str | os.PathLike, split: str) -> Dataset:
    """Read one split of a table; see :func:`read_csv`. A split without rows is an InputError."""
    found = read_csv(root)
    if split not in found:
        raise InputError(f"{root} has no row with split {split!r}; it has {', '.join(found)}.")
    return found[split]


@dataclass(frozen=True)
class _Table:
    """The fields of the file as text: for each row its first line, image path, split and other columns by name."""

    path: Path
    columns: tuple[str, ...]
    lines: list[int]
    images: list[str]
    splits: list[str]
    cells: list[dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> _Table:
        with open_csv(path, strict=True) as reader:
            return cls._parse(path, reader)

    @classmethod
    def _parse(cls, path: Path, reader: csv.reader) -> _Table:
        header = [name.strip() for name in next(reader, [])]
        for name in ("image", "split"):
            if name not in header:
                raise InputError(f"{path} has no column {name!r}; its first line reads {','.join(header)!r}.")
        for name in header:
            if header.count(name) > 1 or not name:
                raise InputError(f"{path}, line 1: the column name {name!r} is empty or stands there twice.")
        columns = tuple(name for name in header if name not in ("image", "split"))
        table = cls(path, columns, [], [], [], [])
        first_seen: dict[str, int] = {}
        end = reader.line_num
        for fields in reader:
            line, end = end + 1, reader.line_num
            if not fields:
                continue
            if len(fields) != len(header):
                raise InputError(f"{path}, line {line}: {len(fields)} fields; the header has {len(header)}.")
            row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
            if row["split"] not in SPLITS:
                raise InputError(f"{path}, line {line}, column split: {row['split']!r}; wanted train, val or test.")
            if not row["image"]:
                raise InputError(f"{path}, line {line}, column image: empty; the path of an image was wanted.")
            image = os.path.normpath(os.path.join(path.parent, row["image"]))
            if image in first_seen:
                raise InputError(
                    f"{path}, line {line}: image {row['image']} stands in line {first_seen[image]} already."
                )
            first_seen[image] = line
            table.lines.append(line)
            table.images.append(image)
            table.splits.append(row["split"])
            table.cells.append({name: row[name] for name in columns})
        if not table.images:
            raise InputError(f"{path} has no rows below its header.")
        return table


def _is_class(name: str, values: list[str]) -> bool:
    """False for a column of notes; see :func:`read_csv`."""
    texts = {value for value in values if value}
    return not name.startswith("#") and (not texts or any(_like_a_label(text) for text in texts))


def _like_a_label(text: str) -> bool:
    """Whether ``text`` is a label, or could have been meant as one."""
    try:
        float(text)
    except ValueError:
        return text.lower() in WORDS
    return True


def _labels(table: _Table, class_names: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """The label matrix, int8 [N, C], and a sentence on what 0 was taken for."""
    labels = np.zeros((len(table.cells), len(class_names)), np.int8)
    zero = np.zeros(labels.shape, bool)
    for row, cells in enumerate(table.cells):
        for column, name in enumerate(class_names):
            text = cells[name]
            if text not in VALUES:
                raise InputError(
                    f"{table.path}, line {table.lines[row]}, column {name}: {text!r} is not 1, 0, -1 or empty. "
                    "If the column is not a class, begin its name with #."
                )
            labels[row, column] = VALUES[text] or 0
            zero[row, column] = VALUES[text] == 0
    if (labels == -1).any():
        return labels, "The table holds -1 for negatives, so 0 was read as unknown."
    labels[zero] = -1
    return labels, "The table holds no -1, so 0 was read as negative."
