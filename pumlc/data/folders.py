"""A folder per class, as torchvision's ImageFolder reads it; for ImageNet also the reassessed val labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pumlc.data.dataset import Dataset, check_folder, read_json
from pumlc.errors import InputError

SPLITS = ("train", "val", "test")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
REAL = "real.json"
TRAIN_NOTE = "Training images have the one label of their folder; their other classes are unknown."


def read_folders(root: str | os.PathLike) -> dict[str, Dataset]:
    """Read ``train/<class>/…``, and ``val/<class>/…`` and ``test/<class>/…`` where they are there.

    Classes are the folders of train, sorted by name; hidden ones are none. Rows follow the classes, and the names of
    the pictures in and below each folder. The class of the folder is positive. The other classes are unknown (0) in
    train, where a picture may well show more than its folder says, and negative (-1) in val and test: so the scores
    there ask for the one class that the picture was filed under, as top-1 accuracy does.

    Where ``root`` has a ``real.json``, as the reassessed ImageNet labels come (Beyer et al., 2020), the labels of val
    are taken from it: one list of class numbers for each picture, in the order of the file names whatever their
    folders. The classes in a list are positive, the others negative; an empty list makes the picture unknown.

    Raises:
        InputError: there is no train folder, a folder of train has no pictures, val or test has other classes, or
            ``real.json`` does not fit the pictures.
    """
    check_folder(root, "of the pictures")
    root = Path(root)
    if not (root / "train").is_dir():
        raise InputError(
            f"{root} has no folder train; train/<class>/<picture> was wanted, and val/ or test/ likewise. If {root} "
            "itself holds the classes, move them into train/ and set pictures aside with --hold-out 0.1."
        )
    class_names = tuple(_classes(root / "train"))
    if not class_names:
        raise InputError(f"{root / 'train'} has no folders; one for each class was wanted there.")
    found = {}
    for split in SPLITS:
        if not (root / split).is_dir():
            continue
        paths, classes = _pictures(root / split, class_names)
        labels = np.full((len(paths), len(class_names)), 0 if split == "train" else -1, np.int8)
        labels[np.arange(len(paths)), classes] = 1
        notes: tuple[str, ...] = (TRAIN_NOTE,) if split == "train" else ()
        if split == "val" and (root / REAL).exists():
            labels, notes = _reassessed(root / REAL, paths, len(class_names))
        found[split] = Dataset("folder", split, paths, labels, class_names, notes)
    return found


def _classes(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path, class_names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """The pictures of a split and the class of each, [N] int64."""
    columns = {name: column for column, name in enumerate(class_names)}
    paths: list[str] = []
    classes: list[int] = []
    for name in _classes(folder):
        if name not in columns:
            raise InputError(
                f"{folder} has the folder {name}, which train lacks; only its {len(columns)} classes were wanted."
            )
        before = len(paths)
        for place, _, files in sorted(os.walk(folder / name, followlinks=True)):
            paths += [os.path.join(place, file) for file in sorted(files) if file.lower().endswith(EXTENSIONS)]
        if len(paths) == before and folder.name == "train":
            raise InputError(f"{folder / name} has no pictures; wanted files that end in {', '.join(EXTENSIONS)}.")
        classes += [columns[name]] * (len(paths) - before)
    return tuple(paths), np.array(classes, np.int64)


def _reassessed(path: Path, paths: tuple[str, ...], classes: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label matrix [N, classes] int8 from lists of class numbers in the order of the file names, and a note."""
    lists = read_json(path)
    names = [os.path.basename(picture) for picture in paths]
    if len(set(names)) != len(names):
        raise InputError(f"Two pictures of val have the same name, so that {path} cannot be read by names. Rename one.")
    if not isinstance(lists, list) or len(lists) != len(paths):
        found = f"{len(lists)} entries" if isinstance(lists, list) else f"a JSON {type(lists).__name__}"
        raise InputError(f"{path} holds {found}; a list of {len(paths)} was wanted, one for each picture of val.")
    labels = np.full((len(paths), classes), -1, np.int8)
    for row, numbers in zip(np.argsort(names), lists, strict=True):
        if not isinstance(numbers, list) or not all(isinstance(it, int) and 0 <= it < classes for it in numbers):
            raise InputError(
                f"{path} has {numbers!r} for {names[row]}; a list of classes from 0 to {classes - 1} was wanted."
            )
        labels[row, numbers] = 1
        if not numbers:
            labels[row] = 0
    empty = sum(not numbers for numbers in lists)
    return labels, (f"The labels of val are those of {path.name}; {empty} of its {len(paths)} pictures have none.",)
