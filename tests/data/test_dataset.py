"""What a data set checks about itself."""

from __future__ import annotations

import numpy as np
import pytest

from pumlc.data import Dataset, load_splits
from pumlc.data.dataset import check_files
from pumlc.errors import InputError


def dataset(paths=("a.jpg", "b.jpg"), labels=((1, 0), (0, -1)), classes=("cat", "dog"), dtype=np.int8):
    return Dataset("pets", "train", tuple(paths), np.array(labels, dtype).reshape(-1, 2), tuple(classes))


def test_sizes():
    assert len(dataset()) == 2
    assert dataset().num_classes == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": (), "labels": ()}, "The train split of pets has no images left"),
        ({"classes": ()}, "has no classes"),
        ({"paths": ("a.jpg",)}, r"labels are int8 \[2, 2\]; int8 \[1, 2\] was wanted"),
        ({"dtype": np.float32}, "labels are float32"),
        ({"labels": ((1, 2), (0, 0))}, r"values outside \{1, 0, -1\}: \[0, 1, 2\]"),
        ({"labels": ((1, -2), (0, 0))}, "values outside"),
        ({"classes": ("cat", "cat")}, "two classes have the same name"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataset(**changes)


def test_missing_files_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "here.jpg").touch()
    place = "line {}".format
    check_files([str(tmp_path / "here.jpg")], "list.txt", place)
    names = ["here.jpg", "gone.jpg", "folder/gone.jpg"]
    with pytest.raises(InputError, match=r"list\.txt, line 1, names an image file .* not there: .*/gone\.jpg and 1"):
        check_files([str(tmp_path / name) for name in names], "list.txt", place)


def test_unknown_layout(tmp_path):
    with pytest.raises(InputError, match=r"layout is 'imagenet'; coco, .* or csv was wanted"):
        load_splits("imagenet", tmp_path)
