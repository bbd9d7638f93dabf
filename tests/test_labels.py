"""What is listed of a run that changed its labels."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest

from pumlc import labels
from pumlc.data import load_splits
from pumlc.engine.trainer import fit
from tests.engine.runs import events, tiny_run


@pytest.fixture
def config(picture_table: Path, tmp_path: Path):
    return dataclasses.replace(
        tiny_run(picture_table, tmp_path / "run"),
        image_size=32,
        epochs=3,
        method="ll-cp",
        delta_rel=10.0,
        single_positive=True,
    )


def test_every_edit_is_listed(config, capsys):
    assert fit(config) == 0
    capsys.readouterr()
    assert labels.main(["diff", config.out]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert len(rows) == events(config, "method")[-1]["corrected_for_good"] > 0

    train = load_splits("csv", config.data).train
    names = {1: "positive", 0: "unknown", -1: "negative"}
    places = set()
    for row in rows:
        place = (train.paths.index(row["image"]), train.class_names.index(row["class"]))
        assert row["annotated as"] == names[train.labels[place]]
        assert row["epoch"] in ("2", "3")
        assert 0 <= float(row["probability"]) <= 1
        places.add(place)
    assert len(places) == len(rows)  # what was corrected is known from then on
    true = sum(row["annotated as"] == "positive" for row in rows)
    assert f"{len(rows)} labels became positive; of these, {true} are annotated as positive" in printed.err


def test_a_run_of_another_method(config, capsys):
    config = dataclasses.replace(config, method="ll-ct", epochs=1, steps=1)
    assert fit(config) == 0
    assert labels.main(["diff", config.out]) == 2
    assert "is of --method ll-ct, which changes no labels; ll-cp does" in capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    assert labels.main(["diff", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
