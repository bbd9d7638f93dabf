"""What is not written: a file that predicts something else, and what was asked for wrongly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pumlc.data.quarantine import FILE, write_quarantine
from pumlc.engine.evaluation_files import EvaluatedSplit, write_split
from pumlc.errors import InputError
from pumlc.export import network
from pumlc.export.__main__ import main
from pumlc.export.pictures import choose_pictures
from tests.engine.runs import tiny_run
from tests.export.exported import NAMES, write_run
from tests.pictures import write_pictures


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


def settings_of(run: Path, data: Path | str) -> None:
    """The settings of a run with this data folder."""
    config = tiny_run(Path(data), run)
    (run / "config.json").write_text(json.dumps(dataclasses.asdict(config)))


def evaluation_of(run: Path, split: str, paths: Sequence[Path], usable: Sequence[bool]) -> None:
    """What evaluation leaves of these pictures."""
    rows = len(paths), len(NAMES)
    labels = torch.zeros(rows, dtype=torch.int8)
    write_split(
        run, EvaluatedSplit(torch.zeros(rows), labels, labels, torch.tensor(usable), paths, NAMES, split, "ema", 1)
    )


def test_pictures_are_those_that_the_run_held_out(run, picture_table, tmp_path):
    settings_of(run, picture_table)
    chosen = choose_pictures(run, [], tmp_path, count=4)
    assert chosen.source == f"of the test split of {picture_table}"
    assert len(chosen.paths) == 4
    assert all(path.name.startswith("test_") for path in chosen.paths)


def test_pictures_of_the_evaluation_need_no_data_folder(run, picture_table, tmp_path, monkeypatch):
    settings_of(run, "a folder beside the one that training began in")
    pictures = [picture_table / f"val_{i}.jpg" for i in range(4)]
    evaluation_of(run, "train", pictures[:1], [True])
    with pytest.raises(InputError, match="evaluation has no held-out split"):
        choose_pictures(run, [], tmp_path)
    evaluation_of(run, "val", pictures, [True, False, True, True])
    monkeypatch.chdir(tmp_path)
    for place in (run, run / "best.safetensors"):
        chosen = choose_pictures(place, [], tmp_path)
        assert chosen.paths == [pictures[0], pictures[2], pictures[3]]
        assert chosen.source == f"of the val split that {run} was evaluated on"
        assert chosen.warning is None
    evaluation_of(run, "test", [picture_table / "test_0.jpg"], [True])
    assert [path.name for path in choose_pictures(run, [], tmp_path).paths] == ["test_0.jpg"]


def test_pictures_of_the_data_where_those_of_the_evaluation_are_gone(run, picture_table, tmp_path):
    settings_of(run, picture_table)
    evaluation_of(run, "test", [tmp_path / "gone.jpg"], [True])
    chosen = choose_pictures(run, [], tmp_path, count=4)
    assert chosen.source == f"of the test split of {picture_table}"


def test_pictures_are_drawn_only_if_that_is_allowed(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings_of(run, "gone")
    evaluation_of(run, "test", [tmp_path / "gone.jpg"], [True])
    command = [str(run), "--format", "safetensors", "--count", "2"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: There are no pictures to check on. Give some with --pictures FOLDER, or let ")
    why = (
        f"\n  No picture of the test split that {run} was evaluated on can be read."
        f"\n  The data of the run, {tmp_path / 'gone'}, is not there.\n"
    )
    assert error.endswith(f"--allow-drawn. What was tried:{why}")
    assert not (run / "model.safetensors").exists()
    assert main([*command, "--allow-drawn"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"warning: the check is on drawn pictures, for want of real ones:{why}"
    assert captured.out.startswith("checked on 2 pictures, drawn for this check\n")


def test_too_many_bad_pictures_are_no_reason_to_draw_some(run, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_quarantine(data / FILE, data, {str(write_pictures(data) / "test_0.jpg"): "is empty"})
    settings_of(run, data)
    with pytest.raises(InputError, match=r"(?s)What was tried:.*--max-bad-share"):
        choose_pictures(run, [], tmp_path)


def test_unreadable_pictures_are_passed_over(run, picture_table, tmp_path):
    (tmp_path / "cut.jpg").write_bytes((picture_table / "test_0.jpg").read_bytes()[:200])
    given = [str(tmp_path / "cut.jpg"), str(picture_table / "test_1.jpg")]
    assert [path.name for path in choose_pictures(run, given, tmp_path).paths] == ["test_1.jpg"]
