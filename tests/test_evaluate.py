"""python -m pumlc.evaluate: what a run left at its end, and the training images besides."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.data import load_splits
from pumlc.data.dropping import keep_proportion
from pumlc.engine.config import Config
from pumlc.engine.evaluation_files import SUMMARY, evaluated_splits, read_split, read_summary
from pumlc.engine.trainer import fit
from pumlc.evaluate import main, table
from tests.engine.runs import tiny_run


@pytest.fixture(scope="module")
def finished(picture_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run that knows 40 % of the training labels."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = dataclasses.replace(tiny_run(picture_table, out), image_size=32, epochs=2, prob=0.4)
    assert fit(config) == 0
    return config


@pytest.fixture
def run(finished: Config, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished.out, tmp_path / "run"))


def test_it_repeats_what_training_wrote(run, capsys):
    before = read_summary(run), read_split(run, "test").logits
    shutil.rmtree(run / "evaluation")
    assert main([str(run), "--splits", "val", "test", "--device", "cpu"]) == 0
    after = read_summary(run)
    assert evaluated_splits(run) == ("val", "test")
    torch.testing.assert_close(read_split(run, "test").logits, before[1], rtol=1e-5, atol=1e-5)
    del before[0]["splits"]["test"]["scores"]["last"]  # which are gone
    assert json.dumps(after) == json.dumps(before[0])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"weights: {after['weights']} of epoch {after['epoch']}, chosen on val")
    assert lines[1] == "calibration and thresholds: from val"
    kept = after["splits"]["test"]["scores"]["kept"]
    row = next(line.split() for line in lines if line.startswith("test"))
    assert row[1:3] == ["9", f"{kept['mAP']:.2f}"]
    assert row[-2:] == [f"{kept['reliability'][when]['ECE']:.2f}" for when in ("before", "after")]
    assert "test: the interval is not to be relied on: 3 classes have fewer than 30 positives" in lines
    assert "val is flattered: weights, calibration, thresholds were chosen on these very images" in lines
    classes = [line.split()[0] for line in lines[-4:]]
    assert classes[-1] == "absent"  # the one without positives comes last, with no number
    assert lines[-1].split()[1:4] == ["0", "9", "-"]
    by_ap = sorted((each["AP"], each["name"]) for each in kept["classes"] if each["AP"] is not None)
    assert classes[:-1] == [name for _, name in by_ap]


def test_the_table_holds_whatever_it_is_given(run):
    summary = read_summary(run)
    scores = summary["splits"]["test"]["scores"]["kept"]
    scores |= {"mAP": 100.0, "mAP_interval": [100.0, 100.0], "mAP_published": 100.0}
    scores["classes"][0]["name"], scores["classes"][1]["name"] = "re\nd", "gr\u202eeen"
    lines = list(table(summary, ["test"]))
    row = next(line.split() for line in lines if line.startswith("test"))
    assert row[2:7] == ["100.00", "100.00", "-", "100.00", "100.00"]
    assert all(line.isprintable() for line in lines)
    names = {line.split()[0] for line in lines[-4:]}
    assert names == {'"re\\nd"', '"gr\\u202eeen"', "blue", "absent"}
    assert len({len(line) for line in lines[-5:]}) == 1


def test_training_images_with_what_training_saw_of_them(run, finished, capsys):
    assert main([str(run), "--splits", "train", "--device", "cpu"]) == 0
    found, train = read_split(run, "train"), load_splits("csv", Path(finished.data)).train
    assert list(found.paths) == list(train.paths)
    assert np.array_equal(found.labels.numpy(), train.labels)
    assert np.array_equal(found.observed.numpy(), keep_proportion(train.labels, 0.4))
    summary = read_summary(run)
    assert list(summary["splits"]) == ["train", "val", "test"]
    assert summary["splits"]["train"]["flattered_by"] == ["training"]
    assert "last" in summary["splits"]["test"]["scores"]  # was not touched
    output = capsys.readouterr().out
    assert "train is flattered: the network was trained on these very images" in output
    assert "\ntest" not in output


def test_all_splits_of_data_that_has_been_moved(run, finished, picture_table, tmp_path):
    moved = Path(shutil.copytree(picture_table, tmp_path / "moved"))
    (run / "config.json").write_text(
        json.dumps(dataclasses.asdict(dataclasses.replace(finished, data=str(tmp_path / "nowhere"))))
    )
    assert main([str(run), "--device", "cpu"]) == 2
    assert main([str(run), "--device", "cpu", "--data", str(moved)]) == 0
    assert evaluated_splits(run) == ("train", "val", "test")
    assert all(path.startswith(str(moved)) for path in read_split(run, "train").paths)


def test_what_cannot_be_evaluated(run, picture_table, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(picture_table, data)
    table = data / "labels.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if ",test," not in row))
    assert main([str(run), "--splits", "test", "--data", str(data)]) == 2
    assert f"--splits has test, and the data in {data} has only train, val." in capsys.readouterr().err
    table.write_text("".join(rows).replace("blue", "azure"))
    assert main([str(run), "--data", str(data)]) == 2
    assert "knows 4 classes (red, green, blue, absent, …), the data in" in capsys.readouterr().err
    (run / "best.safetensors").unlink()
    assert main([str(run)]) == 2
    assert "There are no weights" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
    assert (run / "evaluation" / SUMMARY).is_file()  # of before
