"""A small correct data set in each layout, written with empty pictures, whose label files can then be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

IMAGES = ("a.jpg", "b.jpg", "c.jpg")
LABELS = np.array([[1, -1], [-1, 1], [1, 1]], np.int8)  # of IMAGES and two classes


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def coco(root: Path) -> list[Path]:
    _touch(*(root / "train2014" / name for name in IMAGES))
    content = {
        "images": [{"id": row, "file_name": name} for row, name in enumerate(IMAGES)],
        "annotations": [
            {"id": number, "image_id": int(row), "category_id": int(column)}
            for number, (row, column) in enumerate(np.argwhere(LABELS == 1))
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    return [_write(root / "annotations" / "instances_train2014.json", json.dumps(content))]


def voc(root: Path, image_set: str = "trainval") -> list[Path]:
    names = ("cat", "dog")
    _touch(*(root / "JPEGImages" / name for name in IMAGES))
    files = [
        _write(root / "ImageSets" / "Main" / f"{image_set}.txt", "a\nb\nc\n"),
        _write(root / "classes.txt", "cat\ndog\n"),
    ]
    for image, row in zip("abc", LABELS, strict=True):
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult></object>"
            for name, value in zip(names, row, strict=True)
            if value == 1
        )
        xml = f'<?xml version="1.0" encoding="utf-8"?>\n<annotation>{objects}</annotation>'
        files.append(_write(root / "Annotations" / f"{image}.xml", xml))
    return files


def voc12(root: Path) -> list[Path]:
    return voc(root, "train")


def vg(root: Path) -> list[Path]:
    _touch(*(root / "VG_100K" / name for name in IMAGES))
    positives = {name: np.flatnonzero(row == 1).tolist() for name, row in zip(IMAGES, LABELS, strict=True)}
    return [
        _write(root / "train_list_500.txt", "\n".join(IMAGES)),
        _write(root / "vg_category_200_labels_index.json", json.dumps(positives)),
    ]


def nuswide(root: Path) -> list[Path]:
    _touch(*(root / "Flickr" / "actor" / name for name in IMAGES))
    files = [
        _write(root / "ImageList" / "TrainImagelist.txt", "".join(f"actor\\{name}\n" for name in IMAGES)),
        _write(root / "ConceptsList" / "Concepts81.txt", "cat\ndog\n"),
    ]
    for name, column in zip(("cat", "dog"), LABELS.T, strict=True):
        text = "".join(f"{int(value == 1)}\n" for value in column)
        files.append(_write(root / "Groundtruth" / "TrainTestLabels" / f"Labels_{name}_Train.txt", text))
    return files


def cub(root: Path) -> list[Path]:
    _touch(*(root / "images" / name for name in (*IMAGES, "d.jpg")))
    lines = [f"{row + 1} {column + 1} {int(LABELS[row, column] == 1)} 3 1.5\n" for row, column in np.ndindex(3, 2)]
    return [
        _write(root / "images.txt", "".join(f"{row} {name}\n" for row, name in enumerate((*IMAGES, "d.jpg"), 1))),
        _write(root / "train_test_split.txt", "1 1\n2 1\n3 1\n4 0\n"),
        _write(root / "attributes" / "attributes.txt", "1 cat\n2 dog\n"),
        _write(root / "attributes" / "image_attribute_labels.txt", "".join(lines) + "4 1 0 1 1.5\n4 2 1 1 1.5\n"),
    ]


def openimages(root: Path) -> list[Path]:
    _touch(*(root / "train" / name for name in IMAGES))
    lines = [
        f"{IMAGES[row][0]},verification,/m/{'cat' if column == 0 else 'dog'},{int(LABELS[row, column] == 1)}\n"
        for row, column in np.ndindex(3, 2)
    ]
    return [
        _write(root / "class-descriptions.csv", "/m/cat,cat\n/m/dog,dog\n"),
        _write(
            root / "train-annotations-human-imagelabels.csv",
            "ImageID,Source,LabelName,Confidence\n" + "".join(lines),
        ),
    ]


def csv(root: Path) -> list[Path]:
    _touch(*(root / name for name in IMAGES))
    lines = [f"{name},train,{row[0]},{row[1]}\n" for name, row in zip(IMAGES, LABELS, strict=True)]
    return [_write(root / "labels.csv", "image,split,cat,dog\n" + "".join(lines))]


LAYOUTS: dict[str, Callable[[Path], list[Path]]] = {
    "coco": coco,
    "voc": voc,
    "voc12": voc12,
    "vg": vg,
    "nuswide": nuswide,
    "cub": cub,
    "openimages": openimages,
    "csv": csv,
}
"""Writers by layout; each returns the files that hold its labels."""
