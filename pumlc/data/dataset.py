"""What every annotation reader returns: image files, the label matrix and the names of the classes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pumlc.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """One split of an annotated data set, N images and C classes.

    Attributes:
        name: of the data set, such as ``coco14``.
        split: ``train``, ``val`` or ``test``.
        paths: N image files.
        labels: int8 [N, C], as annotated: 1 positive, 0 unknown, -1 known negative.
        class_names: C distinct names.
        notes: sentences on how the annotations were read, for the log of a run.

    Raises:
        InputError: there are no images or classes, or the parts do not fit together.
    """

    name: str
    split: str
    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        what = f"The {self.split} split of {self.name}"
        if not self.paths:
            raise InputError(f"{what} has no images left to use; at least one was wanted.")
        if not self.class_names:
            raise InputError(f"{what} has no classes; at least one was wanted.")
        shape = (len(self.paths), len(self.class_names))
        if self.labels.shape != shape or self.labels.dtype != np.int8:
            raise InputError(
                f"{what}: labels are {self.labels.dtype} {list(self.labels.shape)}; int8 {list(shape)} was wanted, "
                "a row for each image and a column for each class."
            )
        if self.labels.min() < -1 or self.labels.max() > 1:
            raise InputError(f"{what}: labels hold values outside {{1, 0, -1}}: {np.unique(self.labels)[:8].tolist()}.")
        if len(set(self.class_names)) != len(self.class_names):
            raise InputError(f"{what}: two classes have the same name: {', '.join(sorted(self.class_names))}.")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Splits:
    """The splits of one data set, with the same classes; ``val`` and ``test`` are None where there are none."""

    train: Dataset
    val: Dataset | None = None
    test: Dataset | None = None

    def __post_init__(self) -> None:
        for other in (self.val, self.test):
            if other is not None and other.class_names != self.train.class_names:
                raise InputError(
                    f"The train and {other.split} splits of {self.train.name} have different classes: "
                    f"{', '.join(self.train.class_names)} against {', '.join(other.class_names)}."
                )


def check_folder(path: str | os.PathLike, purpose: str) -> None:
    """Raise InputError unless ``path`` is a folder; ``purpose`` says what was to be found in it."""
    if not os.path.isdir(path):
        found = "is a file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path} {found}; the folder {purpose} was wanted there.")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something, without blanks around it; raises InputError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"The file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The file {path} cannot be read: {error}.") from error
    if "\0" in text:
        line = len(text[: text.index("\0")].splitlines()) or 1
        raise InputError(f"{path}, line {line}: a zero byte; it is damaged, or not a text in UTF-8.")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_class_names(path: Path) -> tuple[str, ...]:
    """The lines of a file of class names, which must differ; raises InputError."""
    names = tuple(read_lines(path))
    if not names:
        raise InputError(f"{path} is empty; a file with the name of a class per line was wanted.")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the class {twice!r} more than once.")
    return names


def class_names_or_numbers(source: Path, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ``count`` names that ``source`` lists, one per line; where it is absent, numbers and a note that says so."""
    if not source.exists():
        note = f"Classes are numbered from 0 to {count - 1}: there is no {source} with a name per line."
        return tuple(f"class {number}" for number in range(count)), (note,)
    names = read_class_names(source)
    if len(names) != count:
        raise InputError(f"{source} has {len(names)} names; {count} were wanted, one per line.")
    return names, ()


@contextlib.contextmanager
def open_csv(path: str | os.PathLike, **options: object) -> Iterator[Any]:
    """A ``csv.reader`` of a file, with its options; what is wrong with the file becomes an InputError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, **options)
            yield reader
    except FileNotFoundError as error:
        raise InputError(f"The table {path} does not exist.") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a CSV file: {error}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The table {path} cannot be read: {error}.") from error


def read_json(path: Path) -> Any:
    """What an annotation file in JSON holds; raises InputError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"The annotation file {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"The annotation file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}.") from error


def check_files(paths: Iterable[str], source: str | os.PathLike) -> None:
    """Raise InputError if one of the image files ``paths``, which ``source`` names, is not there.

    Lists each folder once, since asking for every file costs minutes on a network file system.
    """
    by_folder = defaultdict(list)
    for path in paths:
        folder, name = os.path.split(path)
        by_folder[folder].append(name)
    missing = []
    for folder, names in by_folder.items():
        try:
            with os.scandir(folder or ".") as entries:
                present = {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            present = set()
        missing += [os.path.join(folder, name) for name in names if name not in present]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{source} names image files that are not there: {missing[0]}{more}.")
