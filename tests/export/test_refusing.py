"""What is not written: a file that predicts something else, and what was asked for wrongly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pumlc.export import network
from pumlc.export.__main__ import main
from pumlc.export.pictures import choose_pictures
from tests.engine.runs import tiny_run
from tests.export.exported import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", "linear")


@pytest.mark.parametrize("kind", ["torch-export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_difference_above_the_tolerance(run, picture_table, capsys, monkeypatch, kind):
    monkeypatch.setattr(network, "MEAN", (0.5, 0.5, 0.5))
    suffix = {"torch-export": "pt2", "onnx": "onnx"}[kind]
    old = run / f"model.{suffix}"
    old.write_bytes(b"of before")
    before = sorted(run.iterdir())
    command = [str(run), "--format", kind, "--pictures", str(picture_table), "--count", "3"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {old} is not written: the probability of ")
    assert "where --tolerance allows 0.005" in error
    assert sorted(run.iterdir()) == before
    assert old.read_bytes() == b"of before"
    assert main([*command, "--tolerance", "1"]) == 0
    assert len(old.read_bytes()) > 10_000


def test_numbers_that_are_none_do_not_pass(run, picture_table, capsys, monkeypatch):
    monkeypatch.setattr(network, "STD", (0.0, 0.0, 0.0))
    command = [str(run), "--format", "torch-export", "--pictures", str(picture_table), "--tolerance", "1"]
    assert main(command) == 2
    assert "is nan in torch-export" in capsys.readouterr().err
    assert not (run / "model.pt2").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "model.bin"], "a name that ends in .onnx was wanted"),
        (["--out", "nowhere/model.onnx"], "there is no folder nowhere"),
        (["--count", "0"], "--count is 0"),
        (["--pictures", "missing.jpg"], "None of the pictures given can be read: missing.jpg"),
    ],
)
def test_bad_input(run, capsys, arguments, message):
    assert main([str(run), "--format", "onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_the_weights_of_the_run_are_not_overwritten(run, picture_table, capsys):
    weights = run / "best.safetensors"
    before = weights.read_bytes()
    command = [str(run), "--format", "safetensors", "--out", str(weights), "--pictures", str(picture_table)]
    assert main(command) == 2
    assert "the very weights that are exported" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_pictures_are_those_that_the_run_held_out(run, picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, run))
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    chosen = choose_pictures(run, [], tmp_path, count=4)
    assert chosen.source == f"of the test split of {picture_table}"
    assert len(chosen.paths) == 4
    assert all(path.name.startswith("test_") for path in chosen.paths)


def test_pictures_are_drawn_where_the_data_is_gone(run, tmp_path):
    config = dataclasses.replace(tiny_run(tmp_path / "gone", run))
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    chosen = choose_pictures(run, [], tmp_path, count=2)
    assert len(chosen.paths) == 2
    assert all(path.is_file() for path in chosen.paths)
    assert f"{tmp_path / 'gone'}, is not there: the check is on drawn pictures" in chosen.warning


def test_unreadable_pictures_are_passed_over(run, picture_table, tmp_path):
    (tmp_path / "cut.jpg").write_bytes((picture_table / "test_0.jpg").read_bytes()[:200])
    given = [str(tmp_path / "cut.jpg"), str(picture_table / "test_1.jpg")]
    assert [path.name for path in choose_pictures(run, given, tmp_path).paths] == ["test_1.jpg"]
