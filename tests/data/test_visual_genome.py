"""VG-200: the lists, the folders of images, the numbered classes, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pumlc.data import keep_proportion, load_splits, load_visual_genome
from pumlc.errors import InputError

POSITIVES = {"2339.jpg": [0, 199], "61.jpg": [], "7.jpg": [3, 3]}
LABELS = "vg_category_200_labels_index.json"


@pytest.fixture
def vg(tmp_path):
    """Three images to train on, one of them in the second folder, and one more in the file of labels."""
    for folder, names in (("VG_100K", ("2339.jpg", "7.jpg")), ("VG_100K_2", ("61.jpg", "8.jpg"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / "train_list_500.txt").write_text("".join(f"{name}\n" for name in POSITIVES))
    (tmp_path / LABELS).write_text(json.dumps(POSITIVES | {"8.jpg": [5]}))
    return tmp_path


def test_rows_columns_and_values(vg):
    dataset = load_visual_genome(vg, "train")
    assert dataset.name == "vg200"
    assert [path.split("/")[-2:] for path in dataset.paths] == [
        ["VG_100K", "2339.jpg"],
        ["VG_100K_2", "61.jpg"],
        ["VG_100K", "7.jpg"],
    ]
    assert dataset.labels.shape == (3, 200)
    assert [np.flatnonzero(row == 1).tolist() for row in dataset.labels] == [[0, 199], [], [3]]
    assert (dataset.labels == -1).sum() == 600 - 3
    kept = keep_proportion(dataset.labels, 0.5)
    assert ((kept != 0) == (np.random.RandomState(0).random_sample([3, 200]) < 0.5)).all()


def test_names(vg):
    dataset = load_visual_genome(vg, "train")
    assert dataset.class_names[:2] == ("class 0", "class 1")
    assert "numbered" in dataset.notes[0]
    names = [f"thing {number}" for number in range(200)]
    (vg / "classes.txt").write_text("\n".join(names))
    dataset = load_visual_genome(vg, "train")
    assert dataset.class_names == tuple(names)
    assert dataset.notes == ()


def test_splits(vg):
    assert load_splits("vg", vg).test is None
    (vg / "test_list_500.txt").write_text("8.jpg\n")
    splits = load_splits("vg", vg)
    assert splits.val is None
    assert len(splits.test) == 1
    assert splits.test.labels[0, 5] == 1


def test_an_image_in_both_folders_is_that_of_the_first(vg):
    (vg / "VG_100K_2/7.jpg").touch()
    assert load_visual_genome(vg, "train").paths[2] == str(vg / "VG_100K/7.jpg")


def test_refused(vg, tmp_path):
    def refused(message, root=vg, split="train"):
        with pytest.raises(InputError, match=message):
            load_visual_genome(root, split)

    refused("no split 'val'", split="val")
    refused("nowhere does not exist", root=tmp_path / "nowhere")
    refused(r"test_list_500\.txt does not exist", split="test")
    (vg / "classes.txt").write_text("cat\ndog\n")
    refused(r"classes\.txt has 2 names; 200 were wanted")
    (vg / "classes.txt").unlink()
    for wrong in (200, -1, "cat"):
        (vg / LABELS).write_text(json.dumps(POSITIVES | {"7.jpg": [wrong]}))
        refused(rf"7\.jpg has the class {wrong!r}; 0 to 199 was wanted")
    (vg / LABELS).write_text(json.dumps({"2339.jpg": [1], "61.jpg": []}))
    refused(r"no list of classes for the image 7\.jpg")
    (vg / LABELS).write_text("[1]")
    refused("holds a JSON list")
    (vg / LABELS).write_text("{")
    refused("is not a JSON file")
    (vg / LABELS).unlink()
    refused(rf"{LABELS} does not exist")
    (vg / "VG_100K_2/61.jpg").unlink()
    refused(r"line \d, names an image file that is not in VG_100K or VG_100K_2: 61\.jpg\.")
    for folder in ("VG_100K", "VG_100K_2"):
        (vg / folder).rename(vg / f"old_{folder}")
    refused("has no images")
    (vg / "train_list_500.txt").write_text("7.jpg\n7.jpg\n")
    refused(r"txt, line 2: the image '7\.jpg' stands in line 1 already")
    (vg / "train_list_500.txt").write_text("\n")
    refused("lists no images")
