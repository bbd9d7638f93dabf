"""A demo set drawn by the project itself: real JPEG files and COCO annotations, for trying a training run.

``python -m pumlc.data.demo FOLDER`` writes it in the layout of COCO 2014, so that training on it takes the
same path as training on COCO. Pictures are about 320 by 240 pixels, show up to four objects of eight kinds on textured
backgrounds, and are the same bytes for the same seed and version of Pillow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from pumlc.data.demo_drawing import Placed, picture
from pumlc.data.demo_shapes import KINDS
from pumlc.errors import InputError, require

FORMAT = 1  # to be raised when the drawing changes, so that an old set is not taken for a new one
SHAPES = ((320, 240), (320, 214), (352, 264), (300, 300), (240, 320), (214, 320))  # width, height
RECORD = "demo.json"


def write_demo(root: str | os.PathLike, *, seed: int = 0, train: int = 1200, test: int = 240) -> Path:
    """Draw the demo set into the folder ``root``, or say that it is there already.

    The set appears under its name only when it is complete. Returns the folder.

    Args:
        seed: of everything random.
        train, test: number of pictures in ``train2014`` and ``val2014``.

    Raises:
        InputError: ``root`` holds something else, or cannot be written.
    """
    root = Path(root)
    record = {"format": FORMAT, "seed": seed, "train": train, "test": test}
    if _is_complete(root, record):
        print(f"Demo set: {train} + {test} pictures are already in {root}.")
        return root
    print(f"Demo set: drawing {train} + {test} pictures into {root}.", flush=True)
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        for number, (split, count) in enumerate((("train2014", train), ("val2014", test))):
            _write_split(partial, split, count, [seed, number])
        (partial / RECORD).write_text(json.dumps(record) + "\n")
        partial.rename(root)
    except OSError as error:
        raise InputError(f"The demo set cannot be written to {root}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _is_complete(root: Path, record: dict[str, int]) -> bool:
    """Whether ``root`` holds the set that ``record`` describes; False if nothing is there."""
    if not root.is_dir() or not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / RECORD).read_text())
        counts = [len(os.listdir(root / folder)) for folder in ("train2014", "val2014")]
    except (OSError, ValueError):
        found, counts = None, []
    if found != record or counts != [record["train"], record["test"]]:
        raise InputError(
            f"{root} holds something other than the complete demo set that was asked for. "
            "Name another folder, or remove this one to have it drawn again."
        )
    return True


def _write_split(root: Path, split: str, count: int, seed: list[int]) -> None:
    """Draw ``count`` pictures and their ``instances_*.json``; each picture depends on its number and seed alone."""
    image = require("PIL.Image", "pillow")
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        rng = np.random.RandomState([*seed, index])
        pixels, objects = _draw(rng)
        name = f"COCO_{split}_{index + 1:012d}.jpg"
        image.fromarray(pixels).save(root / split / name, quality=rng.randint(70, 96))
        height, width = pixels.shape[:2]
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for thing in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": thing.kind + 1,
                    "bbox": list(thing.box),
                    "area": thing.area,
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    categories = [{"id": i + 1, "name": kind.name, "supercategory": "object"} for i, kind in enumerate(KINDS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _draw(rng: np.random.RandomState) -> tuple[np.ndarray, list[Placed]]:
    """One picture: its shape, which kinds it shows (some of them twice), and the drawing."""
    width, height = SHAPES[rng.randint(len(SHAPES))]
    shown = [index for index, kind in enumerate(KINDS) if rng.random_sample() < kind.frequency]
    shown = shown or [rng.randint(len(KINDS))]
    kinds = [*shown, *(kind for kind in shown if rng.random_sample() < 0.2)]
    rng.shuffle(kinds)
    return picture(width, height, kinds[:4], rng)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pumlc.data.demo", description="Draw the demo set.")
    parser.add_argument("folder", help="where to write it, in the layout of COCO 2014")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        write_demo(arguments.folder, seed=arguments.seed)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
