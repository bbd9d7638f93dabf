"""From annotation files to image paths and the int8 label matrix: 1 positive, 0 unknown, -1 known negative."""

from __future__ import annotations

import os
from typing import Literal

from pumlc.data.coco import annotation_file, load_coco
from pumlc.data.csv_table import load_csv, read_csv
from pumlc.data.dataset import Dataset, Splits
from pumlc.data.dropping import keep_proportion, single_positive
from pumlc.data.visual_genome import image_list_file, load_visual_genome
from pumlc.data.voc import image_set_file, load_voc
from pumlc.errors import InputError

__all__ = [
    "Dataset",
    "Splits",
    "keep_proportion",
    "load_coco",
    "load_csv",
    "load_splits",
    "load_visual_genome",
    "load_voc",
    "single_positive",
]


def load_splits(
    layout: Literal["coco", "voc", "vg", "csv"],
    root: str | os.PathLike,
    *,
    include_unannotated: bool = False,
    difficult: Literal["unknown", "negative"] = "unknown",
) -> Splits:
    """Read every split that is there.

    COCO, VOC and VG publish no third split: ``val`` is None, and ``test`` is val2014 or the test set, or None where
    its list of images is absent. A CSV table has the splits that its ``split`` column names; train is needed.

    Args:
        include_unannotated: for COCO, see :func:`load_coco`.
        difficult: for VOC, see :func:`load_voc`.

    Raises:
        InputError: as the readers, or the splits have different classes.
    """
    if layout == "coco":
        options = {"include_unannotated": include_unannotated}
        train = load_coco(root, "train", **options)
        has_test = annotation_file(root, "test").exists()
        return Splits(train, test=load_coco(root, "test", **options) if has_test else None)
    if layout == "voc":
        train = load_voc(root, "train", difficult=difficult)
        has_test = image_set_file(root, "test").exists()
        return Splits(train, test=load_voc(root, "test", difficult=difficult) if has_test else None)
    if layout == "vg":
        train = load_visual_genome(root, "train")
        has_test = image_list_file(root, "test").exists()
        return Splits(train, test=load_visual_genome(root, "test") if has_test else None)
    if layout == "csv":
        found = read_csv(root)
        if "train" not in found:
            raise InputError(f"{root} has no row with split 'train'; it has {', '.join(found)}.")
        return Splits(found["train"], found.get("val"), found.get("test"))
    raise InputError(f"The layout is {layout!r}; coco, voc, vg or csv was wanted.")
