"""Open Images: tables with a line for each image-level label that a person has verified, and a folder per split."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pumlc.data.dataset import Dataset, check_folder, open_csv
from pumlc.errors import InputError

SPLITS = {"train": "train", "val": "validation", "test": "test"}
DESCRIPTIONS = (
    "class-descriptions.csv",
    "oidv6-class-descriptions.csv",
    "oidv7-class-descriptions.csv",
    os.path.join("2017_11", "class-descriptions.csv"),
)
TABLES = (
    "{}-annotations-human-imagelabels.csv",
    "oidv6-{}-annotations-human-imagelabels.csv",
    "oidv7-{}-annotations-human-imagelabels.csv",
    os.path.join("2017_11", "{}", "annotations-human.csv"),
)
FOLDERS = {"train": ("train", "images_train"), "val": ("validation", "images_val"), "test": ("test", "images_test")}
HEADER = ["ImageID", "Source", "LabelName", "Confidence"]
VALUES = {"1": 1, "0": -1, "1.0": 1, "0.0": -1}


def read_open_images(root: str | os.PathLike) -> dict[str, Dataset]:
    """Read the splits of Open Images (V3 to V7) with the image-level labels that people have verified.

    ``root`` holds ``class-descriptions.csv``, ``{train,validation,test}-annotations-human-imagelabels.csv`` (all also
    with ``oidv6-`` or ``oidv7-`` before the name, or as V3 unpacks, in ``2017_11/``) and the images as
    ``{train,validation,test}/<ImageID>.jpg`` (or in ``images_train/``, ``images_val/``, ``images_test/``). Train is
    needed, the others are read where both their table and their images are there.

    Hardly anyone has all nine million images: those that are there and have a label are used, in the order in which
    the table names them. Notes say how many they are. Classes are those with a positive among these images of train,
    in the order of the descriptions. Labels of other classes are left out of all splits, so that an image of val or
    test may have none. Confidence 1 is positive, 0 negative, and a class without a line is unknown; where two lines
    disagree, a person has seen the object, and the class is positive.

    The tables are read line by line; memory goes to the labels of the images that are there alone.

    Raises:
        InputError: a folder or file is missing or damaged, a label is not in the descriptions, or no image of train
            or no positive is left.
    """
    check_folder(root, "of the Open Images data set")
    root = Path(root)
    source = _first(root, DESCRIPTIONS)
    descriptions = _read_descriptions(source)
    numbers = {label: number for number, label in enumerate(descriptions)}
    train_table, train_folder = _table(root, "train"), _folder(root, "train")
    train = _Verified.read(train_table, train_folder, numbers, source)
    if not train.images:
        raise InputError(
            f"{train_folder} has none of the images that {train_table} names; files such as <ImageID>.jpg were wanted."
        )
    positive = np.zeros(len(numbers), bool)
    positive[train.classes[train.values == 1]] = True
    if not positive.any():
        raise InputError(f"{train_table} has no positive label of the {len(train.images)} images in {train_folder}.")
    columns = np.where(positive, positive.cumsum() - 1, -1)
    names = _distinct_names(descriptions)
    class_names = tuple(name for name, chosen in zip(names, positive, strict=True) if chosen)

    found = {"train": train.dataset("train", columns, class_names)}
    for split in ("val", "test"):
        table, folder = _table(root, split), _folder(root, split)
        if not table.exists():
            continue
        verified = _Verified.read(table, folder, numbers, source) if folder.is_dir() else None
        if verified is not None and verified.images:
            found[split] = verified.dataset(split, columns, class_names)
        else:
            note = f"There is no {split} split: {folder} has none of the images of {table.name}."
            found["train"] = replace(found["train"], notes=(*found["train"].notes, note))
    return found


class _Verified(NamedTuple):
    """The labels of the images that are there: for each label its image, class (in all descriptions) and value."""

    images: list[str]
    """N files, in the order of the table."""
    rows: np.ndarray
    """[L] int32, which of the images."""
    classes: np.ndarray
    """[L] int32, which of the described classes."""
    values: np.ndarray
    """[L] int8, 1 or -1."""
    note: str

    @classmethod
    def read(cls, table: Path, folder: Path, numbers: dict[str, int], source: Path) -> _Verified:
        """Of ``table`` the lines of the images in ``folder``; ``source`` gave the ``numbers`` of the classes."""
        check_folder(folder, "of the images")
        there = {os.path.splitext(entry.name)[0]: entry.path for entry in os.scandir(folder) if entry.is_file()}
        images: list[str] = []
        places: dict[str, int] = {}
        rows, classes, values = array("i"), array("i"), array("b")
        count = 0
        for line, (image, _, label, confidence) in _lines(table, HEADER):
            count += 1
            if image not in there:
                continue
            if label not in numbers:
                raise InputError(f"{table}, line {line}: the label {label!r} is not in {source}.")
            if confidence not in VALUES:
                raise InputError(f"{table}, line {line}: the confidence is {confidence!r}; 1 or 0 was wanted.")
            if image not in places:
                places[image] = len(images)
                images.append(there[image])
            rows.append(places[image])
            classes.append(numbers[label])
            values.append(VALUES[confidence])
        note = (
            f"Of {table.name}, {len(rows)} of {count} labels are of images in {folder.name}/, where "
            f"{len(images)} of {len(there)} files have labels."
        )
        return cls(images, np.asarray(rows), np.asarray(classes), np.asarray(values), note)

    def dataset(self, split: str, columns: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
        """``columns`` [all classes]: the column of a class, -1 where it is left out."""
        labels = np.zeros((len(self.images), len(class_names)), np.int8)
        for value in (-1, 1):  # a positive overwrites a negative
            chosen = (self.values == value) & (columns[self.classes] >= 0)
            labels[self.rows[chosen], columns[self.classes[chosen]]] = value
        return Dataset("openimages", split, tuple(self.images), labels, class_names, (self.note,))


def _first(root: Path, names: tuple[str, ...]) -> Path:
    """The first of the files or folders that is there, or else the first one."""
    return next((root / name for name in names if (root / name).exists()), root / names[0])


def _table(root: Path, split: str) -> Path:
    return _first(root, tuple(name.format(SPLITS[split]) for name in TABLES))


def _folder(root: Path, split: str) -> Path:
    return _first(root, FOLDERS[split])


def _read_descriptions(path: Path) -> dict[str, str]:
    """The name of each label, in the order of the file; newer versions of it have a header."""
    found: dict[str, str] = {}
    for line, (label, name) in _lines(path, ["LabelName", "DisplayName"], needed=False):
        if label in found:
            raise InputError(f"{path}, line {line}: the label {label!r} is described in a line before already.")
        found[label] = name
    if not found:
        raise InputError(f"{path} describes no classes; lines of a label and its name were wanted.")
    return found


def _distinct_names(descriptions: dict[str, str]) -> list[str]:
    """The names of the classes; where several have the same name, the label is added to it."""
    times: dict[str, int] = {}
    for name in descriptions.values():
        times[name] = times.get(name, 0) + 1
    return [name if times[name] == 1 else f"{name} ({label})" for label, name in descriptions.items()]


def _lines(path: Path, header: list[str], needed: bool = True) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of each line below the header, one at a time; raises InputError."""
    with open_csv(path) as reader:
        for fields in reader:
            if not fields or (reader.line_num == 1 and fields == header):
                continue
            if needed and reader.line_num == 1:
                raise InputError(f"{path}, line 1: {','.join(fields)!r}; {','.join(header)!r} was wanted.")
            if len(fields) != len(header):
                raise InputError(f"{path}, line {reader.line_num}: {len(fields)} fields; {len(header)} were wanted.")
            yield reader.line_num, fields
