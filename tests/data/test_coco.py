"""COCO annotations: order of rows and columns, what counts as positive, and what is refused."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from pumlc.data import load_coco, load_splits
from pumlc.errors import InputError

pytest.importorskip("pycocotools")

CONTENT = {
    "images": [
        {"id": 7, "file_name": "b.jpg"},
        {"id": 3, "file_name": "a.jpg"},
        {"id": 9, "file_name": "empty.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 18, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 18, "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 2, "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 40, "iscrowd": 0},
    ],
    "categories": [{"id": 40, "name": "kite"}, {"id": 2, "name": "person"}, {"id": 18, "name": "dog"}],
}


def write(root, content, split="train"):
    for folder in ("annotations", f"{split}2014"):
        (root / folder).mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg", "empty.jpg"):
        (root / f"{split}2014" / name).touch()
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / f"instances_{split}2014.json").write_text(text)
    return root


def changed(part, index, key, value=None):
    """The content with one key of one entry set, or taken out where ``value`` is None."""
    content = copy.deepcopy(CONTENT)
    if value is None:
        del content[part][index][key]
    else:
        content[part][index][key] = value
    return content


def test_rows_follow_the_file_and_columns_the_category_ids(tmp_path, capsys):
    dataset = load_coco(write(tmp_path, CONTENT), "train")
    assert dataset.name == "coco14"
    assert dataset.class_names == ("person", "dog", "kite")
    assert dataset.paths == (str(tmp_path / "train2014/b.jpg"), str(tmp_path / "train2014/a.jpg"))
    assert dataset.labels.tolist() == [[1, -1, 1], [-1, 1, -1]]  # the crowd of people is a positive
    assert dataset.labels.dtype == np.int8
    assert capsys.readouterr().out == ""


def test_images_without_annotation_on_request(tmp_path):
    dataset = load_coco(write(tmp_path, CONTENT), "train", include_unannotated=True)
    assert len(dataset) == 3
    assert dataset.labels[2].tolist() == [-1, -1, -1]


def test_splits(tmp_path):
    assert load_splits("coco", write(tmp_path, CONTENT)).test is None
    splits = load_splits("coco", write(tmp_path, CONTENT, "val"))
    assert splits.val is None
    assert splits.test.split == "test"
    assert splits.test.paths[0] == str(tmp_path / "val2014/b.jpg")


def test_splits_with_different_classes(tmp_path):
    write(tmp_path, changed("categories", 0, "name", "box"), "val")
    with pytest.raises(InputError, match="different classes: person, dog, kite against person, dog, box"):
        load_splits("coco", write(tmp_path, CONTENT))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "train2014.json is not a JSON file"),
        ("[]", "holds a JSON list"),
        ({k: v for k, v in CONTENT.items() if k != "categories"}, "lacks the list 'categories'"),
        (changed("images", 1, "file_name"), "entry 1 of 'images' lacks the key 'file_name'"),
        (changed("annotations", 0, "image_id"), "entry 0 of 'annotations' lacks the key 'image_id'"),
        (changed("images", 1, "id", 7), "entry 1 of 'images' has the id 7, as entry 0 has"),
        (changed("annotations", 0, "image_id", 5), "annotation 1 has image_id 5, which is not in the file"),
        (changed("annotations", 3, "category_id", 5), "annotation 4 has category_id 5"),
        (changed("images", 0, "file_name", "c.jpg"), r"not there: .*train2014/c\.jpg\."),
        ({**CONTENT, "annotations": []}, "no image with an annotation"),
        ({**CONTENT, "images": [], "annotations": []}, "no image with an annotation"),
    ],
)
def test_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        load_coco(write(tmp_path, content), "train")


def test_missing_folders_and_files(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist; the folder of the COCO data set"):
        load_coco(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="train2014 does not exist; the folder of the images"):
        load_coco(tmp_path, "train")
    (tmp_path / "train2014").mkdir()
    with pytest.raises(InputError, match=r"instances_train2014\.json does not exist"):
        load_coco(tmp_path, "train")
    with pytest.raises(InputError, match="no split 'dev'"):
        load_coco(tmp_path, "dev")
