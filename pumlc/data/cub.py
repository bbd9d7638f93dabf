"""CUB-200-2011: birds with 312 attributes, which are the classes here; text files of numbered images and attributes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from pumlc.data.dataset import Dataset, Line, check_distinct, check_files, check_folder, read_lines
from pumlc.errors import InputError

FOLDERS = ("", "CUB_200_2011", os.path.join("CUB_200_2011", "CUB_200_2011"))
ATTRIBUTES = (os.path.join("attributes", "attributes.txt"), "attributes.txt", os.path.join("..", "attributes.txt"))
DIGITS = 9  # of the longest number of an image or attribute
CERTAINTY_NOTE = "An attribute that is not marked as present is negative, also where a bird does not show that part."


def read_cub(root: str | os.PathLike) -> dict[str, Dataset]:
    """Read the train and test splits of CUB-200-2011 with its attributes as classes.

    ``root`` is the folder with ``images.txt``, or holds it as ``CUB_200_2011/``. It has ``images/``,
    ``train_test_split.txt``, ``attributes/image_attribute_labels.txt`` and ``attributes/attributes.txt``, which the
    archive puts beside the folder as ``attributes.txt``. Rows follow ``images.txt``, columns ``attributes.txt``.

    A class is positive where the attribute is marked as present, and negative everywhere else. The certainty of the
    annotator is not used, "not visible" included: so it is in the SPML protocol (Cole et al., 2021) and in all results
    that follow it. Lines of the label file may have more columns than the five documented ones, as some have.

    Raises:
        InputError: a folder or file is missing or damaged, or a label is missing, doubled or of an unknown image.
    """
    check_folder(root, "of the CUB data set")
    folder = _folder(Path(root))
    images, attributes = _numbered(folder / "images.txt"), _numbered(_attribute_file(folder))
    check_distinct(_attribute_file(folder), attributes.values(), "attribute")
    in_train = _numbered(folder / "train_test_split.txt")
    for number, (_, name) in images.items():
        if number not in in_train or in_train[number].text not in ("0", "1"):
            line, found = in_train.get(number, (None, "nothing"))
            where = f", line {line}," if line else ""
            raise InputError(
                f"{folder / 'train_test_split.txt'}{where} has {found} for image {number}, {name}; a 1 (train) or 0 "
                "(test) was wanted."
            )
    entries = tuple(images.values())
    paths = [os.path.join(folder, "images", entry.text) for entry in entries]
    check_files(paths, folder / "images.txt", lambda row: f"line {entries[row].number}")
    labels = _labels(folder / "attributes" / "image_attribute_labels.txt", images, attributes)

    found = {}
    for split, mark in (("train", "1"), ("test", "0")):
        rows = [row for row, number in enumerate(images) if in_train[number].text == mark]
        chosen = tuple(paths[row] for row in rows)
        names = tuple(attribute.text for attribute in attributes.values())
        found[split] = Dataset("cub", split, chosen, labels[rows], names, (CERTAINTY_NOTE,))
    return found


def _folder(root: Path) -> Path:
    for name in FOLDERS:
        if (root / name / "images.txt").exists():
            return root / name
    raise InputError(f"{root} is not a CUB folder: neither it nor CUB_200_2011/ in it has a file images.txt.")


def _attribute_file(folder: Path) -> Path:
    """The list of attributes where it is, or where it should be."""
    return next((folder / name for name in ATTRIBUTES if (folder / name).exists()), folder / ATTRIBUTES[0])


def _numbered(path: Path) -> dict[int, Line]:
    """The lines ``<number> <text>`` of a file by this number, in its order; of each the text after it."""
    found: dict[int, Line] = {}
    for line in read_lines(path):
        number, _, text = line.text.partition(" ")
        if not number.isdecimal() or len(number) > DIGITS or not text:
            raise InputError(
                f"{path}, line {line.number}: {line.text[:60]!r}; a number and a text after it were wanted."
            )
        if int(number) in found:
            raise InputError(
                f"{path}, line {line.number}: the number {number} stands in line {found[int(number)].number} already."
            )
        found[int(number)] = Line(line.number, text)
    if not found:
        raise InputError(f"{path} is empty; lines of a number and a text were wanted.")
    return found


def _labels(path: Path, images: Collection[int], attributes: Collection[int]) -> np.ndarray:
    """The label matrix [N, C] int8 from lines ``<image> <attribute> <is present> …``, one for each pair."""
    if not path.exists():
        raise InputError(f"The file of labels {path} does not exist.")
    try:
        table = np.loadtxt(path, np.int32, comments=None, usecols=(0, 1, 2), ndmin=2, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    except ValueError as error:
        for number, line in read_lines(path):
            if not _has_numbers(line):
                raise InputError(f"{path}, line {number}: {line[:60]!r}; at least 3 numbers were wanted.") from error
        raise InputError(f"{path} cannot be read: {error}. Lines of numbers were wanted.") from error
    rows = _places(table[:, 0], images, path, "image")
    columns = _places(table[:, 1], attributes, path, "attribute")
    wrong = np.flatnonzero((table[:, 2] != 0) & (table[:, 2] != 1))
    if wrong.size:
        raise InputError(f"{_line(path, wrong[0])}: is_present is {table[wrong[0], 2]}; 1 or 0 was wanted.")

    shape = (len(images), len(attributes))
    times = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
    other = np.flatnonzero(times != 1)
    if other.size:
        row, column = divmod(int(other[0]), shape[1])
        same = np.flatnonzero((rows == row) & (columns == column))
        where = f"{_line(path, same[1])}: the file" if same.size else path
        raise InputError(
            f"{where} has {times[other[0]]} lines for image {list(images)[row]} and attribute "
            f"{list(attributes)[column]}; one was wanted for each of the {shape[0]} images and {shape[1]} attributes."
        )
    labels = np.empty(shape, np.int8)
    labels[rows, columns] = 2 * table[:, 2] - 1
    return labels


def _has_numbers(line: str) -> bool:
    """Whether a line begins with three numbers that a label file can have."""
    fields = line.split()[:3]
    try:
        return len(fields) == 3 and all(np.int32(int(field)) == int(field) for field in fields)
    except (ValueError, OverflowError):
        return False


def _line(path: Path, row: int) -> str:
    """The place of a row of labels: lines without anything are none."""
    return f"{path}, line {read_lines(path)[row].number}"


def _places(numbers: np.ndarray, known: Iterable[int], path: Path, what: str) -> np.ndarray:
    """Which of the ``known`` each number is, int64."""
    known = np.fromiter(known, np.int64)
    order = np.argsort(known)
    places = order[np.searchsorted(known, numbers, sorter=order).clip(max=len(known) - 1)]
    unknown = np.flatnonzero(known[places] != numbers)
    if unknown.size:
        raise InputError(f"{_line(path, unknown[0])}: there is no {what} {numbers[unknown[0]]}.")
    return places
