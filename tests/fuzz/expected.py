"""What a label file says, by a second reader for each layout: short, for files that the first one took, and slow.

Each returns the labels of the train images by the name of their file, without its ending, and the name of a class.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

Labels = dict[str, dict[str, int]]


def lines(path: Path) -> list[str]:
    text = path.read_text("utf-8-sig")
    return [line.strip() for line in text.split("\n") if line.strip()]


def stem(name: str) -> str:
    return Path(name.replace("\\", "/")).stem


def coco(root: Path) -> Labels:
    content = json.loads((root / "annotations" / "instances_train2014.json").read_bytes())
    names = {category["id"]: category["name"] for category in content["categories"]}
    shown = {(thing["image_id"], thing["category_id"]) for thing in content["annotations"]}
    found = {}
    for image in content["images"]:
        labels = {name: 1 if (image["id"], number) in shown else -1 for number, name in names.items()}
        if 1 in labels.values():  # the others are left out
            found[stem(image["file_name"])] = labels
    return found


def voc(root: Path, image_set: str = "trainval") -> Labels:
    found = {}
    for image in lines(root / "ImageSets" / "Main" / f"{image_set}.txt"):
        found[stem(image)] = labels = dict.fromkeys(lines(root / "classes.txt"), -1)
        for thing in ElementTree.parse(root / "Annotations" / f"{image}.xml").iter("object"):
            name, difficult = (str(thing.findtext(key) or "").strip() for key in ("name", "difficult"))
            labels[name] = max(labels[name], 0 if difficult == "1" else 1)
    return found


def voc12(root: Path) -> Labels:
    return voc(root, "train")


def vg(root: Path) -> Labels:
    positives = json.loads((root / "vg_category_200_labels_index.json").read_bytes())
    return {
        stem(image): {f"class {number}": 1 if number in positives[image] else -1 for number in range(200)}
        for image in lines(root / "train_list_500.txt")
    }


def nuswide(root: Path) -> Labels:
    images = [line.replace("\\", "/") for line in lines(root / "ImageList" / "TrainImagelist.txt")]
    found: Labels = {image: {} for image in images}
    for name in lines(root / "ConceptsList" / "Concepts81.txt"):
        path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{name}_Train.txt"
        for image, value in zip(images, path.read_text("utf-8-sig").split(), strict=True):
            found[image][name] = {"1": 1, "0": -1}[value]
    there = {f"actor/{name}" for name in os.listdir(root / "Flickr" / "actor")}
    return {stem(image): labels for image, labels in found.items() if image in there}


def numbered(path: Path) -> dict[int, str]:
    return {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in lines(path)}


def cub(root: Path) -> Labels:
    images, attributes = numbered(root / "images.txt"), numbered(root / "attributes" / "attributes.txt")
    in_train = numbered(root / "train_test_split.txt")
    found: Labels = {stem(name): {} for number, name in images.items() if in_train[number] == "1"}
    for line in lines(root / "attributes" / "image_attribute_labels.txt"):
        image, attribute, is_present = (int(field) for field in line.split()[:3])
        if in_train[image] == "1":
            found[stem(images[image])][attributes[attribute]] = {1: 1, 0: -1}[is_present]
    return found


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row for row in csv.reader(file) if row]


def openimages(root: Path) -> Labels:
    described = {label: name for label, name in table(root / "class-descriptions.csv") if label != "LabelName"}
    times = list(described.values())
    names = {label: name if times.count(name) == 1 else f"{name} ({label})" for label, name in described.items()}
    found: Labels = {}
    there = os.listdir(root / "train")
    for image, _, label, confidence in table(root / "train-annotations-human-imagelabels.csv")[1:]:
        if f"{image}.jpg" in there:
            labels = found.setdefault(image, {})
            labels[names[label]] = max(labels.get(names[label], -1), {1.0: 1, 0.0: -1}[float(confidence)])
    used = [name for name in names.values() if any(labels.get(name) == 1 for labels in found.values())]
    return {image: {name: labels.get(name, 0) for name in used} for image, labels in found.items()}


def csv_table(root: Path) -> Labels:
    header, *rows = ([field.strip() for field in row] for row in table(root / "labels.csv"))
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    notes = {"image", "split", *(name for name in header if name.startswith("#"))}
    for name in set(header) - notes:
        values = {row[name] for row in cells} - {""}
        if values and not values & {"1", "0", "-1", "1.0", "0.0", "-1.0"}:
            notes.add(name)  # a column of text
    classes = [name for name in header if name not in notes]
    with_negatives = any(row[name] in ("-1", "-1.0") for row in cells for name in classes)
    zero = 0 if with_negatives else -1
    return {
        stem(row["image"]): {
            name: 0 if not row[name] else {1.0: 1, 0.0: zero, -1.0: -1}[float(row[name])] for name in classes
        }
        for row in cells
        if row["split"] == "train"
    }


READERS: dict[str, Callable[[Path], Labels]] = {
    "coco": coco,
    "voc": voc,
    "voc12": voc12,
    "vg": vg,
    "nuswide": nuswide,
    "cub": cub,
    "openimages": openimages,
    "csv": csv_table,
}
