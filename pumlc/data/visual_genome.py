"""Visual Genome with the 200 most frequent classes: two text files that list the images, one JSON file of positives."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pumlc.data.dataset import (
    Dataset,
    Line,
    check_distinct,
    check_folder,
    class_names_or_numbers,
    read_json,
    read_lines,
)
from pumlc.errors import InputError

LISTS = {"train": "train_list_500.txt", "test": "test_list_500.txt"}  # drawn for 500 classes, used for 200 as they are
LABELS = "vg_category_200_labels_index.json"
CLASSES = 200
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2")  # as the two archives of the data set unpack; some merge them into the first


def image_list_file(root: str | os.PathLike, split: str) -> Path:
    """The text file that lists the images of a split, whether it exists or not."""
    return Path(root) / LISTS[split]


def load_visual_genome(root: str | os.PathLike, split: str) -> Dataset:
    """Read a split of VG-200, in the files that the partial-label codes (SSGRL, SARB, PU-MLC) share.

    ``root`` holds ``train_list_500.txt`` and ``test_list_500.txt`` with the name of an image per line,
    ``vg_category_200_labels_index.json`` with an object ``{"<image>.jpg": [<class from 0 to 199>, ...], ...}``, and the
    images in ``VG_100K/`` and ``VG_100K_2/``. Rows follow the list, images without a class included, as the published
    masks need it. A class is positive where the file names it, and negative everywhere else.

    The classes have no names in these files. Where ``root`` has a ``classes.txt``, they are its 200 lines.

    Raises:
        InputError: a folder or file is missing or damaged, an image has no entry, or a class is not one of the 200.
    """
    if split not in LISTS:
        raise InputError(f"VG has no split {split!r}; train or test was wanted.")
    check_folder(root, "of the Visual Genome data set")
    root, source = Path(root), image_list_file(root, split)
    lines = read_lines(source)
    if not lines:
        raise InputError(f"{source} lists no images; at least one was wanted.")
    check_distinct(source, lines, "image")
    paths, images = _find(root, lines, source), [line.text for line in lines]
    class_names, notes = class_names_or_numbers(root / "classes.txt", CLASSES)
    return Dataset("vg200", split, paths, _labels(root / LABELS, images, source), class_names, notes)


def _labels(path: Path, images: list[str], source: Path) -> np.ndarray:
    """The label matrix [N, 200] int8 of the images that ``source`` lists."""
    positives = read_json(path)
    if not isinstance(positives, dict):
        raise InputError(f"{path} holds a JSON {type(positives).__name__}; an object of lists of classes was wanted.")
    labels = np.full((len(images), CLASSES), -1, np.int8)
    for row, image in enumerate(images):
        classes = positives.get(image)
        if not isinstance(classes, list):
            raise InputError(f"{path} has no list of classes for the image {image}, which {source} names.")
        wrong = [number for number in classes if type(number) is not int or not 0 <= number < CLASSES]
        if wrong:
            raise InputError(f"{path}: image {image} has the class {wrong[0]!r}; 0 to {CLASSES - 1} was wanted.")
        labels[row, classes] = 1
    return labels


def _find(root: Path, lines: list[Line], source: Path) -> tuple[str, ...]:
    """The file of each image, whichever of the folders it lies in; each folder is listed once."""
    where: dict[str, str] = {}
    for folder in reversed([root / name for name in IMAGE_FOLDERS if (root / name).is_dir()]):
        where |= {entry.name: entry.path for entry in os.scandir(folder)}
    if not where:
        raise InputError(f"{root} has no images: wanted them in {' and '.join(IMAGE_FOLDERS)}.")
    missing = [line for line in lines if line.text not in where]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{source}, line {missing[0].number}, names an image file that is not in {' or '.join(IMAGE_FOLDERS)}: "
            f"{missing[0].text}{more}."
        )
    return tuple(where[line.text] for line in lines)
