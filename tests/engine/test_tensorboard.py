"""The event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from pumlc.engine.log import RunLog, read_config, read_events
from pumlc.engine.tensorboard import FOLDER, EventFiles
from pumlc.engine.trainer import fit
from pumlc.errors import InputError, MissingPackageError, require
from tests.engine.runs import tiny_run


def scalars(run: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Steps, values and times by tag, as TensorBoard shows them."""
    module = require("tensorboard.backend.event_processing.event_accumulator", "tensorboard")
    accumulator = module.EventAccumulator(str(run / FOLDER), size_guidance={module.SCALARS: 0}).Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_a_run_that_is_stopped_and_goes_on_has_the_numbers_of_its_log(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), epochs=2, steps=3, tensorboard=True)
    run = Path(config.out)
    assert fit(config) == 0
    # what a crash leaves: steps after the last checkpoint, which the run that goes on takes again
    lost = RunLog(run, EventFiles(run))
    lost.event("train", epoch=1, step=4, loss=123.0)
    lost.event("train", epoch=1, step=9, loss=456.0)
    lost.close()
    assert fit(dataclasses.replace(config, resume=config.out, steps=None)) == 0

    went_on = read_config(run)
    assert (went_on.steps, went_on.resume) == (None, None)  # as it went on, not as it began
    found = scalars(run)
    logged = [event for event in read_events(run) if event["event"] == "train"]
    assert [event["step"] for event in logged] == list(range(1, 11))
    for name in ("loss", "lr", "images_per_second", "data_wait"):
        expected = [(event["step"], event[name], event["time"]) for event in logged]
        assert found[f"train/{name}"] == [tuple(map(pytest.approx, point)) for point in expected]
    evaluated = [e for e in read_events(run) if e["event"] == "eval" and (e["split"], e["weights"]) == ("val", "last")]
    assert [step for step, _, _ in found["val/mAP"]] == [event["step"] for event in evaluated]
    assert [value for _, value, _ in found["val/mAP"]] == pytest.approx([event["mAP"] for event in evaluated])
    assert "test best/mAP" in found
    assert not [tag for tag in found if "AP/" in tag]


def test_no_files_unless_asked_for(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), steps=1)
    assert fit(config) == 0
    assert not (Path(config.out) / FOLDER).exists()


def test_a_folder_that_cannot_be_made(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), tensorboard=True)
    folder = Path(config.out) / FOLDER
    folder.parent.mkdir()
    folder.write_text("a file")
    with pytest.raises(InputError, match="tensorboard could not be written"):
        fit(config)


def test_the_missing_package_is_named_before_anything_is_written(picture_table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), tensorboard=True)
    with pytest.raises(MissingPackageError, match="pip install tensorboard"):
        fit(config)
    assert not Path(config.out).exists()
