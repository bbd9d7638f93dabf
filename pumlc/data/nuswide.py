"""NUS-WIDE: lists of images and a file of zeros and ones per concept and split, or the arrays of the SPML code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pumlc.data.dataset import Dataset, check_folder, class_names_or_numbers, read_class_names, read_lines
from pumlc.errors import InputError

LISTS = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}
SUFFIXES = {"train": "Train", "test": "Test"}
ARRAYS = {"train": "train", "test": "val"}  # the test images of the archives are the val images of the SPML code
CONCEPTS = (os.path.join("ConceptsList", "Concepts81.txt"), "Concepts81.txt")
IMAGE_FOLDERS = ("Flickr", "images")


def nuswide_list(root: str | os.PathLike, split: str) -> Path:
    """The file that lists the images of a split, whether it exists or not."""
    root = Path(root)
    if _has_arrays(root):
        return root / f"formatted_{ARRAYS[split]}_images.npy"
    return root / "ImageList" / LISTS[split]


def load_nuswide(root: str | os.PathLike, split: str) -> Dataset:
    """Read a split of NUS-WIDE as its archives unpack, or of any data set in its layout.

    ``root`` holds ``ImageList/{Train,Test}Imagelist.txt`` with the path of an image per line
    (``actor\\0001_2124494179.jpg``), ``ConceptsList/Concepts81.txt`` (or ``Concepts81.txt``) with the name of a class
    per line, ``Groundtruth/TrainTestLabels/Labels_<class>_{Train,Test}.txt`` with a 1 or 0 for each image of the list,
    and the images in ``Flickr/`` or ``images/``, in the folders that the list names or all in one.

    Where ``root`` has ``formatted_train_images.npy``, the arrays that the SPML code (Cole et al., 2021) shares are read
    instead: ``formatted_{train,val}_images.npy`` with N paths and ``formatted_{train,val}_labels.npy`` [N, C] of 0 and
    1. They name no classes: the names are those of the concept list or of ``classes.txt``, if one of them is there.

    Rows follow the list. A class is positive where the file has a 1, and negative where it has a 0. Images that are
    not there are left out, since many can no longer be had; a note says how many they are.

    Raises:
        InputError: a folder or file is missing or damaged, the labels do not fit the list, or no image is there.
    """
    if split not in LISTS:
        raise InputError(f"NUS-WIDE has no split {split!r}; train or test was wanted.")
    check_folder(root, "of the NUS-WIDE data set")
    root, source = Path(root), nuswide_list(root, split)
    if _has_arrays(root):
        images, labels = _read_arrays(root, split, source)
        concepts = _concept_file(root)
        names = concepts if concepts.exists() else root / "classes.txt"
        class_names, notes = class_names_or_numbers(names, labels.shape[1])
    else:
        images = [line.text for line in read_lines(source)]
        class_names, notes = read_class_names(_concept_file(root)), ()
        labels = _read_labels(root, split, class_names, source, len(images))
    if not images:
        raise InputError(f"{source} lists no images; at least one was wanted.")
    paths, rows = _present(root, images, source)
    if len(rows) < len(images):
        absent = len(images) - len(rows)
        notes = (*notes, f"Left out: {absent} of the {len(images)} images of {source.name}, whose files are not there.")
    return Dataset("nuswide", split, paths, labels[rows], class_names, notes)


def _has_arrays(root: Path) -> bool:
    return (root / f"formatted_{ARRAYS['train']}_images.npy").exists()


def _concept_file(root: Path) -> Path:
    """The list of classes where it is, or where it should be."""
    return next((root / name for name in CONCEPTS if (root / name).exists()), root / CONCEPTS[0])


def _read_labels(root: Path, split: str, class_names: tuple[str, ...], source: Path, count: int) -> np.ndarray:
    """The label matrix [count, C] int8, a column from each file."""
    labels = np.empty((count, len(class_names)), np.int8)
    for column, name in enumerate(class_names):
        path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{name}_{SUFFIXES[split]}.txt"
        labels[:, column] = _read_column(path, source, count)
    return labels


def _read_column(path: Path, source: Path, count: int) -> np.ndarray:
    """[count] int8 of 1 and -1 from a file with a 1 or 0 per line."""
    try:
        characters = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError as error:
        raise InputError(f"The file of labels {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"The file of labels {path} cannot be read: {error.strerror}.") from error
    is_digit = (characters == ord("0")) | (characters == ord("1"))
    is_blank = np.isin(characters, np.frombuffer(b" \t\r\n", np.uint8))
    digits = characters[is_digit]
    if not (is_digit | is_blank).all() or (is_digit[1:] & is_digit[:-1]).any():
        digits = np.frombuffer("".join(_tokens(path)).encode(), np.uint8)
    if len(digits) != count:
        raise InputError(f"{path} has {len(digits)} labels; {source.name} lists {count} images.")
    return np.where(digits == ord("1"), np.int8(1), np.int8(-1))


def _tokens(path: Path) -> Iterator[str]:
    """Each 1 or 0 of a file, in which they may stand behind a mark of UTF-8; raises InputError for anything else."""
    for number, line in read_lines(path):
        for token in re.split(r"[ \t]+", line):
            if token not in ("0", "1"):
                raise InputError(f"{path}, line {number}: {token[:40]!r}; a 1 or 0 was wanted.")
            yield token


def _read_arrays(root: Path, split: str, source: Path) -> tuple[list[str], np.ndarray]:
    """The paths of the images and the label matrix [N, C] int8 of the SPML code."""
    path = root / f"formatted_{ARRAYS[split]}_labels.npy"
    images, values = _read_array(source), _read_array(path)
    if images.ndim != 1 or images.dtype.kind != "U":
        raise InputError(f"{source} holds {images.dtype} {list(images.shape)}; a list of paths was wanted.")
    if values.ndim != 2 or len(values) != len(images) or values.dtype.kind not in "bif":
        raise InputError(
            f"{path} holds {values.dtype} {list(values.shape)}; numbers [{len(images)}, classes] were wanted, a "
            f"row for each image of {source.name}."
        )
    if not ((values == 0) | (values == 1)).all():
        raise InputError(f"{path} holds values other than 0 and 1: {np.unique(values)[:8].tolist()}.")
    return images.tolist(), np.where(values == 1, np.int8(1), np.int8(-1))


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"The array {path} does not exist.") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"The array {path} cannot be read: {error}.") from error


def _present(root: Path, images: list[str], source: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The files that are there, and their rows in ``images``. Each folder is listed once."""
    folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise InputError(f"{root} has no images: wanted them in {' or '.join(f'{name}/' for name in IMAGE_FOLDERS)}.")
    there = set()
    for entry in os.scandir(folder):
        if entry.is_dir():
            there |= {f"{entry.name}/{name}" for name in os.listdir(entry.path)}
        else:
            there.add(entry.name)
    paths, rows = [], []
    for row, image in enumerate(images):
        name = image.replace("\\", "/")
        name = name if name in there else name.rpartition("/")[2]
        if name in there:
            paths.append(os.path.join(folder, name))
            rows.append(row)
    if not rows:
        raise InputError(
            f"None of the {len(images)} images of {source} is in {folder}; {images[0]} was the first one looked for."
        )
    return tuple(paths), np.array(rows)
