"""COCO: one JSON file per split with all images, annotations and categories."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from pumlc.data.dataset import Dataset, check_files, check_folder, read_json
from pumlc.errors import InputError, require

FOLDERS = {"train": "train", "test": "val"}  # the published test labels are those of the val images
KEYS = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id"), "categories": ("id", "name")}


def annotation_file(root: str | os.PathLike, split: str, year: str = "2014") -> Path:
    """The JSON file of a split, whether it exists or not."""
    return Path(root) / "annotations" / f"instances_{FOLDERS[split]}{year}.json"


def load_coco(root: str | os.PathLike, split: str, *, year: str = "2014", include_unannotated: bool = False) -> Dataset:
    """Read a split of COCO, or of any data set in its layout.

    ``root`` holds ``train2014/``, ``val2014/`` and ``annotations/instances_{train,val}2014.json``. Rows follow the
    ``images`` list of the file, columns the ids of the categories. A class is positive where it has an annotation,
    crowds included, and negative everywhere else.

    Args:
        split: ``train``, or ``test`` for the val images.
        include_unannotated: keep images that show none of the classes (all labels -1), as the published
            PU-MLC code does; otherwise they are left out.

    Raises:
        InputError: a folder, file or key is missing, the file is not JSON, an image file is not there,
            or no image is left.
    """
    if split not in FOLDERS:
        raise InputError(f"COCO has no split {split!r}; train or test was wanted.")
    check_folder(root, "of the COCO data set")
    source = annotation_file(root, split, year)
    folder = Path(root) / f"{FOLDERS[split]}{year}"
    check_folder(folder, "of the images")
    coco = _index(source)

    columns = {category: column for column, category in enumerate(sorted(coco.cats))}
    images = coco.dataset["images"]
    labels = np.full((len(images), len(columns)), -1, np.int8)
    for row, image in enumerate(images):
        labels[row, [columns[thing["category_id"]] for thing in coco.imgToAnns.get(image["id"], ())]] = 1
    rows = np.arange(len(images)) if include_unannotated else np.flatnonzero((labels == 1).any(axis=1))
    if not rows.size:
        raise InputError(
            f"{source} has no image with an annotation ({len(images)} images in all); wanted at least one."
        )
    paths = tuple(os.path.join(folder, images[row]["file_name"]) for row in rows)
    check_files(paths, source, lambda row: f"entry {rows[row]} of 'images'")
    names = tuple(coco.cats[category]["name"] for category in columns)
    return Dataset(f"coco{year[-2:]}", split, paths, labels[rows], names)


def _index(source: Path) -> Any:
    """The checked content of an annotation file as a ``pycocotools.coco.COCO``, without what that prints."""
    content = read_json(source)
    _check(content, source)
    coco = require("pycocotools.coco", "pycocotools").COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    for thing in content["annotations"]:
        for key, known in (("image_id", coco.imgs), ("category_id", coco.cats)):
            if thing[key] not in known:
                raise InputError(
                    f"{source}: annotation {thing['id']} has {key} {thing[key]}, which is not in the file."
                )
    return coco


def _check(content: Any, source: Path) -> None:
    """Raise InputError unless ``content`` has the lists and keys that are read here, and each id once."""
    if not isinstance(content, dict):
        raise InputError(
            f"{source} holds a JSON {type(content).__name__}; an object with {', '.join(KEYS)} was wanted."
        )
    for part, keys in KEYS.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            raise InputError(f"{source} lacks the list {part!r}; a COCO file has {', '.join(KEYS)}.")
        for number, entry in enumerate(entries):
            lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if lacking:
                raise InputError(f"{source}: entry {number} of {part!r} lacks the key {lacking[0]!r}.")
            for key in keys:
                kinds = (str,) if key.endswith("name") else (int, str)
                if type(entry[key]) not in kinds or entry[key] == "" or "\0" in str(entry[key]):
                    wanted = " or ".join({int: "a whole number", str: "a text"}[kind] for kind in kinds)
                    raise InputError(
                        f"{source}: {key} of entry {number} of {part!r} is {entry[key]!r}; {wanted} was wanted."
                    )
        _check_distinct(entries, part, "id", source)
    categories = content["categories"]
    if not categories:
        raise InputError(f"{source}: the list 'categories' is empty; the classes with a name each were wanted.")
    _check_distinct(categories, "categories", "name", source)
    for number, category in enumerate(categories):
        if type(category["id"]) is not type(categories[0]["id"]):
            raise InputError(
                f"{source}: the id of entry {number} of 'categories' is {category['id']!r}, that of entry 0 "
                f"{categories[0]['id']!r}; numbers or texts were wanted, not both."
            )


def _check_distinct(entries: list[dict[str, Any]], part: str, key: str, source: Path) -> None:
    first: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        if first.setdefault(entry[key], number) != number:
            raise InputError(
                f"{source}: entry {number} of {part!r} has the {key} {entry[key]!r}, as entry {first[entry[key]]} has."
            )
