"""From annotation files to image paths and the int8 label matrix: 1 positive, 0 unknown, -1 known negative."""

from __future__ import annotations

import os
from functools import partial
from typing import Literal

from pumlc.data.coco import annotation_file, load_coco
from pumlc.data.csv_table import load_csv, read_csv
from pumlc.data.cub import read_cub
from pumlc.data.dataset import Dataset, Splits
from pumlc.data.dropping import keep_proportion, single_positive
from pumlc.data.folders import read_folders
from pumlc.data.holding_out import hold_out
from pumlc.data.nuswide import load_nuswide, nuswide_list
from pumlc.data.open_images import read_open_images
from pumlc.data.visual_genome import image_list_file, load_visual_genome
from pumlc.data.voc import image_set_file, load_voc
from pumlc.errors import InputError

__all__ = [
    "Dataset",
    "Splits",
    "hold_out",
    "keep_proportion",
    "load_coco",
    "load_csv",
    "load_nuswide",
    "load_splits",
    "load_visual_genome",
    "load_voc",
    "read_cub",
    "read_folders",
    "read_open_images",
    "single_positive",
]


def load_splits(
    layout: Literal["coco", "voc", "voc12", "vg", "nuswide", "cub", "openimages", "folder", "csv"],
    root: str | os.PathLike,
    *,
    include_unannotated: bool = False,
    difficult: Literal["unknown", "negative"] = "unknown",
) -> Splits:
    """Read every split that is there.

    COCO, VOC, VG, NUS-WIDE and CUB publish no third split: ``val`` is None, and ``test`` is val2014 or the test set, or
    None where its list of images is absent. Open Images and folders have the splits whose images are there, a CSV table
    those that its ``split`` column names; train is needed.

    Args:
        include_unannotated: for COCO, see :func:`load_coco`.
        difficult: for VOC, see :func:`load_voc`.

    Raises:
        InputError: as the readers, or the splits have different classes.
    """
    split_by_split = {
        "coco": (partial(load_coco, include_unannotated=include_unannotated), annotation_file),
        "voc": (partial(load_voc, difficult=difficult), image_set_file),
        "voc12": (partial(load_voc, year="2012", difficult=difficult), partial(image_set_file, year="2012")),
        "vg": (load_visual_genome, image_list_file),
        "nuswide": (load_nuswide, nuswide_list),
    }
    at_once = {"cub": read_cub, "openimages": read_open_images, "folder": read_folders, "csv": read_csv}
    if layout in split_by_split:
        load, source = split_by_split[layout]
        train = load(root, "train")
        return Splits(train, test=load(root, "test") if source(root, "test").exists() else None)
    if layout in at_once:
        found = at_once[layout](root)
        if "train" not in found:
            raise InputError(f"{root} has no row with split 'train'; it has {', '.join(found)}.")
        return Splits(found["train"], found.get("val"), found.get("test"))
    *names, last = (*split_by_split, *at_once)
    raise InputError(f"The layout is {layout!r}; {', '.join(names)} or {last} was wanted.")
