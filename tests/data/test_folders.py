"""A folder per class: order, unknown and negative classes, reassessed labels, what is refused, a short run."""

from __future__ import annotations

import dataclasses
import json

import pytest

from pumlc.data import load_splits, read_folders
from pumlc.engine.trainer import fit
from pumlc.errors import InputError
from tests.data.photos import write_photos
from tests.engine.runs import events, tiny_run

FILES = {
    "train": ("dog/b.JPEG", "dog/a.jpg", "cat/x/1.png", "cat/2.jpg", "bird/7.webp"),
    "val": ("dog/val_1.jpg", "cat/val_3.jpg", "cat/val_2.jpg"),
}


@pytest.fixture
def folders(tmp_path):
    """Five pictures of three classes to train on, three of two classes as val, and files that are no pictures."""
    for split, files in FILES.items():
        for name in files:
            (tmp_path / split / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / name).touch()
    (tmp_path / "train/dog/notes.txt").touch()
    (tmp_path / "train/list.jpg").touch()
    (tmp_path / "train/.cache").mkdir()
    return tmp_path


def names(dataset, root):
    return [path.removeprefix(f"{root}/{dataset.split}/") for path in dataset.paths]


def test_rows_columns_and_values(folders):
    found = read_folders(folders)
    train, val = found["train"], found["val"]
    assert (train.name, train.split, train.class_names) == ("folder", "train", ("bird", "cat", "dog"))
    assert names(train, folders) == ["bird/7.webp", "cat/2.jpg", "cat/x/1.png", "dog/a.jpg", "dog/b.JPEG"]
    assert train.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert "unknown" in train.notes[0]
    assert names(val, folders) == ["cat/val_2.jpg", "cat/val_3.jpg", "dog/val_1.jpg"]
    assert val.labels.tolist() == [[-1, 1, -1], [-1, 1, -1], [-1, -1, 1]]
    assert val.notes == ()


def test_splits(folders):
    splits = load_splits("folder", folders)
    assert (len(splits.train), len(splits.val), splits.test) == (5, 3, None)
    (folders / "val").rename(folders / "test")
    splits = load_splits("folder", folders)
    assert (splits.val, splits.test.labels.tolist()[0]) == (None, [-1, 1, -1])


def test_reassessed_labels_follow_the_names_of_the_files(folders):
    (folders / "real.json").write_text(json.dumps([[2, 0], [], [1]]))  # of val_1, val_2, val_3
    found = read_folders(folders)
    assert names(found["val"], folders) == ["cat/val_2.jpg", "cat/val_3.jpg", "dog/val_1.jpg"]
    assert found["val"].labels.tolist() == [[0, 0, 0], [-1, 1, -1], [1, -1, 1]]
    assert found["val"].notes == ("The labels of val are those of real.json; 1 of its 3 pictures have none.",)
    assert found["train"].labels.tolist()[0] == [1, 0, 0]


def test_refused(folders, tmp_path):
    def refused(message, root=folders):
        with pytest.raises(InputError, match=message):
            read_folders(root)

    real = folders / "real.json"
    real.write_text("[[1], [2]]")
    refused(r"real\.json holds 2 entries; a list of 3 was wanted")
    real.write_text("{}")
    refused(r"real\.json holds a JSON dict; a list of 3")
    real.write_text("[[1], [3], []]")
    refused(r"real\.json has \[3\] for val_2\.jpg; a list of classes from 0 to 2")
    real.write_text("[[1], 2, []]")
    refused(r"real\.json has 2 for val_2\.jpg; a list of classes")
    (folders / "val/cat/val_1.jpg").touch()
    refused("Two pictures of val have the same name")
    (folders / "val/elk").mkdir()
    refused("val has the folder elk, which train lacks; only its 3 classes")
    (folders / "train/elk").mkdir()
    refused("train/elk has no pictures")
    refused(
        r"cat has no folder train; .* move them into train/ and set pictures aside with --hold-out", folders / "val/cat"
    )
    (tmp_path / "empty/train").mkdir(parents=True)
    refused("train has no folders; one for each class", tmp_path / "empty")
    refused("nowhere does not exist", tmp_path / "nowhere")


def test_training_on_folders_with_pictures_held_out(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pictures/train" / name).mkdir(parents=True)
        write_photos(tmp_path / "pictures/train" / name, 4, width=64, height=48)
    config = dataclasses.replace(
        tiny_run(tmp_path / "pictures", tmp_path / "run"), layout="folder", hold_out=0.5, batch_size=3, method="an"
    )
    assert fit(config) == 0
    assert events(config, "start")[0]["images"] == 4
    assert [event["split"] for event in events(config, "eval")] == ["val", "val"]  # the last and the best weights
    assert events(config, "end")[0]["split"] == "val"
