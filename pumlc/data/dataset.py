"""What every annotation reader returns: image files, the label matrix and the names of the classes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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

    @property
    def can_be_scored(self) -> bool:
        """Whether a class has both a positive and a known negative, which its scores could rank."""
        return bool(((self.labels == 1).any(0) & (self.labels == -1).any(0)).any())


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


class Line(NamedTuple):
    number: int  # from 1
    text: str  # without blanks around it


def read_lines(path: Path) -> list[Line]:
    """The lines of a text file that hold something; raises InputError."""
    text = _read_text(path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}, line {line}: a zero byte; it is damaged, or not a text in UTF-8.")
    return [Line(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _read_text(path: str | os.PathLike) -> str:
    """A text in UTF-8, with line ends of Unix; raises InputError."""
    try:
        return _with_line_ends_of_unix(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"The file {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"The file {path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        line = _with_line_ends_of_unix(error.object[: error.start].decode("latin-1")).count("\n") + 1
        raise InputError(
            f"{path}, line {line}: the byte {error.object[error.start]:#04x} is not of a text in UTF-8."
        ) from error


def _with_line_ends_of_unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_distinct(path: Path, lines: Iterable[Line], what: str) -> None:
    """Raise InputError if two of the ``lines`` of a file are the same ``what``."""
    first: dict[str, int] = {}
    for number, text in lines:
        if first.setdefault(text, number) != number:
            raise InputError(f"{path}, line {number}: the {what} {text!r} stands in line {first[text]} already.")


def read_class_names(path: Path) -> tuple[str, ...]:
    """The lines of a file of class names, which must differ; raises InputError."""
    lines = read_lines(path)
    if not lines:
        raise InputError(f"{path} is empty; a file with the name of a class per line was wanted.")
    check_distinct(path, lines, "class")
    return tuple(line.text for line in lines)


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
    except UnicodeDecodeError as error:
        _read_text(path)  # names the line
        raise InputError(f"The table {path} cannot be read: {error}.") from error
    except OSError as error:
        raise InputError(f"The table {path} cannot be read: {error}.") from error


def read_json(path: Path) -> Any:
    """What an annotation file in JSON holds; raises InputError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"The annotation file {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"The annotation file {path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise InputError(f"{path} is not an annotation file: its JSON is nested too deeply.") from error
    except UnicodeDecodeError as error:
        _read_text(path)  # names the line
        raise InputError(f"{path} is not a JSON file: {error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file: {error}.") from error


def check_files(paths: Sequence[str], source: str | os.PathLike, place: Callable[[int], str]) -> None:
    """Raise InputError if one of the image files ``paths``, which ``source`` names, is not there.

    ``place`` says where it names the image of a row: ``line 3``. Lists each folder once, since asking for every file
    costs minutes on a network file system.
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
        where = place(paths.index(missing[0]))
        raise InputError(f"{source}, {where}, names an image file that is not there: {missing[0]}{more}.")
