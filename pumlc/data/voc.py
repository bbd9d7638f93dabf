"""VOC: one XML file per image, and text files that list the images of each split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from pumlc.data.dataset import Dataset, check_distinct, check_files, check_folder, read_class_names, read_lines
from pumlc.errors import InputError

IMAGE_SETS = {  # VOC 2012 has no public annotations of its test set: its val set is in that place
    "2007": {"train": "trainval", "test": "test"},
    "2012": {"train": "train", "test": "val"},
}
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def image_set_file(root: str | os.PathLike, split: str, year: str = "2007") -> Path:
    """The text file that lists the images of a split, whether it exists or not."""
    return _devkit(root, year) / "ImageSets" / "Main" / f"{IMAGE_SETS[year][split]}.txt"


def load_voc(
    root: str | os.PathLike, split: str, *, year: str = "2007", difficult: Literal["unknown", "negative"] = "unknown"
) -> Dataset:
    """Read a split of PASCAL VOC, or of any data set in its layout.

    The folder holds ``JPEGImages/*.jpg``, ``Annotations/*.xml`` and ``ImageSets/Main/{trainval,test}.txt``, of VOC 2012
    ``{train,val}.txt``, as the codes that learn from single positive labels use it. Rows follow the image-set file.
    Columns are the 20 classes of VOC in alphabetical order or, where the folder has a ``classes.txt``, the names in it,
    one per line; an object with another name is an error.

    A class is positive where it has an object, and negative where it has none. Where all its objects are marked
    difficult, which the VOC evaluation neither rewards nor punishes, it is unknown.

    Args:
        root: the folder itself, or the one that holds ``VOC2007/`` or ``VOCdevkit/VOC2007/``.
        split: ``train`` or ``test``.
        year: 2007 or 2012.
        difficult: what a class with difficult objects alone counts as.

    Raises:
        InputError: a folder or file is missing or damaged, an object has an unknown name, or no image is listed.
    """
    if year not in IMAGE_SETS:
        raise InputError(f"The year of VOC is {year!r}; {' or '.join(IMAGE_SETS)} was wanted.")
    if split not in IMAGE_SETS[year]:
        raise InputError(f"VOC has no split {split!r}; train or test was wanted.")
    if difficult not in ("unknown", "negative"):
        raise InputError(f"difficult is {difficult!r}; 'unknown' or 'negative' was wanted.")
    check_folder(root, "of the VOC data set")
    folder, source = _devkit(root, year), image_set_file(root, split, year)
    for part in ("JPEGImages", "Annotations"):
        check_folder(folder / part, f"of the VOC data set with its {part}")
    lines = read_lines(source)
    if not lines:
        raise InputError(f"{source} lists no images; at least one was wanted.")
    check_distinct(source, lines, "image")
    identifiers = [line.text for line in lines]
    paths = tuple(os.path.join(folder, "JPEGImages", f"{identifier}.jpg") for identifier in identifiers)
    check_files(paths, source, lambda row: f"line {lines[row].number}")

    class_names = _class_names(folder)
    columns = {name: column for column, name in enumerate(class_names)}
    labels = np.full((len(identifiers), len(class_names)), -1, np.int8)
    hard = np.int8(0 if difficult == "unknown" else -1)
    for row, identifier in enumerate(identifiers):
        annotation = folder / "Annotations" / f"{identifier}.xml"
        for number, (name, is_difficult) in enumerate(_objects(annotation), 1):
            if name not in columns:
                raise InputError(
                    f"{annotation}: object {number} is {name!r}, which is not one of the {len(columns)} classes. "
                    f"For classes of your own, list them in {folder / 'classes.txt'}, one per line."
                )
            column = columns[name]
            labels[row, column] = max(labels[row, column], hard if is_difficult else np.int8(1))
    return Dataset(f"voc{year[-2:]}", split, paths, labels, class_names)


def _devkit(root: str | os.PathLike, year: str) -> Path:
    """The folder with the images and annotations, at or below ``root``."""
    root = Path(root)
    for candidate in (root, root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"):
        if (candidate / "ImageSets").is_dir():
            return candidate
    raise InputError(
        f"{root} is not a VOC folder: neither it nor VOC{year}/ or VOCdevkit/VOC{year}/ in it has a folder ImageSets."
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    source = folder / "classes.txt"
    return read_class_names(source) if source.exists() else CLASS_NAMES


def _objects(path: Path) -> list[tuple[str, bool]]:
    """The name of each object in an annotation, and whether it is marked difficult."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise InputError(f"The annotation file {path} does not exist.") from error
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"The annotation file {path} cannot be read: {error}.") from error
    except (LookupError, ValueError) as error:  # the declaration in the first line names no encoding for XML
        raise InputError(f"The annotation file {path} cannot be read: line 1, {error}.") from error
    found = []
    for number, thing in enumerate(root.iter("object"), 1):
        name = (thing.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{path}: object {number} has no name.")
        found.append((name, (thing.findtext("difficult") or "0").strip() == "1"))
    return found
