"""The demo set: files and annotations that agree, the same bytes for a seed, written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from pumlc.data import demo, demo_drawing, load_splits
from pumlc.data.demo import write_demo
from pumlc.data.demo_shapes import KINDS
from pumlc.errors import InputError

pytest.importorskip("pycocotools")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "set", train=60, test=3)


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_it_reads_as_coco(root):
    splits = load_splits("coco", root)
    assert (len(splits.train), len(splits.test)) == (60, 3)
    assert splits.train.class_names == tuple(kind.name for kind in KINDS)
    positives = (splits.train.labels == 1).sum(0)
    assert (positives > 0).all()
    assert positives[:3].sum() > 1.5 * positives[-3:].sum()  # unbalanced
    assert 1.5 < positives.sum() / 60 < 3.5  # several per picture


def test_files_and_boxes_agree_with_the_annotations(root):
    content = json.loads((root / "annotations/instances_train2014.json").read_text())
    sizes = {}
    for image in content["images"]:
        with Image.open(root / "train2014" / image["file_name"]) as opened:
            assert opened.format == "JPEG"
            assert opened.size == (image["width"], image["height"])
        sizes[image["id"]] = (image["width"], image["height"])
    assert len(set(sizes.values())) > 3
    for thing in content["annotations"]:
        (x, y, w, h), (width, height) = thing["bbox"], sizes[thing["image_id"]]
        assert min(x, y) >= 0
        assert x + w <= width
        assert y + h <= height
        assert 0 < thing["area"] <= w * h


def test_a_box_surrounds_what_was_painted(monkeypatch):
    monkeypatch.setattr(demo_drawing, "background", lambda width, height, rng: np.zeros((height, width, 3), np.float32))
    pixels, [thing] = demo_drawing.picture(160, 120, [2], np.random.RandomState(1))
    rows, columns = np.nonzero(pixels.max(2) > 40)
    x, y, w, h = thing.box
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == pytest.approx([x, y, x + w, y + h], abs=2)


def test_the_same_bytes_for_a_seed(root, tmp_path):
    again = contents(write_demo(tmp_path / "again", train=4, test=3))
    first = contents(root)
    assert {name for name in again if name.endswith("4.jpg")} == {"train2014/COCO_train2014_000000000004.jpg"}
    assert all(again[name] == first[name] for name in again if name.endswith(".jpg"))
    assert again["annotations/instances_val2014.json"] == first["annotations/instances_val2014.json"]
    other = contents(write_demo(tmp_path / "other", train=1, test=1, seed=1))
    assert other["val2014/COCO_val2014_000000000001.jpg"] != first["val2014/COCO_val2014_000000000001.jpg"]


def test_a_complete_set_is_left_alone(root, capsys):
    before = contents(root)
    write_demo(root, train=60, test=3)
    assert "already" in capsys.readouterr().out
    assert contents(root) == before


def test_something_else_in_the_folder_is_left_alone(root, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something other than the complete demo set"):
        write_demo(tmp_path, train=1, test=1)
    assert contents(tmp_path) == {"mine.txt": b"precious"}
    with pytest.raises(InputError, match="holds something other"):
        write_demo(root, train=61, test=3)


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "set").mkdir()
    assert (write_demo(tmp_path / "set", train=1, test=1) / "annotations/instances_val2014.json").exists()


def test_nothing_is_left_of_an_interrupted_run(tmp_path, monkeypatch):
    drawn = []

    def draw_two(rng):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return np.zeros((8, 8, 3), np.uint8), []

    monkeypatch.setattr(demo, "_draw", draw_two)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "set")
    assert len(drawn) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_demo(tmp_path / "file" / "set", train=1, test=1)


def test_the_command_reports_errors_in_one_line(tmp_path):
    (tmp_path / "mine.txt").touch()
    command = [sys.executable, "-m", "pumlc.data.demo", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
