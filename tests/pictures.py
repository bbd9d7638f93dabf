"""A small data set of coloured pictures, for tests that train and evaluate."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

CLASSES = ("red", "green", "blue", "absent")  # no picture shows the last one
SPLITS = {"train": 26, "val": 7, "test": 9}


@pytest.fixture(scope="session")
def picture_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of :func:`write_pictures`."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def write_pictures(folder: Path) -> Path:
    """labels.csv and 42 JPEG files of 48 by 36 pixels whose colours say what they show; returns the folder."""
    from PIL import Image

    random = np.random.RandomState(0)
    rows = []
    for split, count in SPLITS.items():
        for i in range(count):
            shown = random.rand(3) < 0.5
            shown[i % 3] = True  # every split has positives of the three colours
            pixels = random.randint(0, 80, (36, 48, 3)) + 150 * shown
            name = f"{split}_{i}.jpg"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name, quality=95)
            rows.append([name, split, *shown.astype(int), 0])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "split", *CLASSES], *rows])
    return folder
