"""The run folder's text files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from pumlc.engine.log import RunLog, read_config, start_run_folder
from pumlc.engine.presets import PRESETS
from pumlc.errors import InputError


def test_one_object_per_event(tmp_path):
    log = RunLog(tmp_path)
    log.event("eval", mAP=12.5, loss=math.nan, AP={"cat": None, "dog": math.inf})
    log.event("end", values=(1, 2))
    log.close()
    RunLog(None).event("nobody writes this")
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert first.pop("time") > 1.6e9
    assert first == {"event": "eval", "mAP": 12.5, "loss": None, "AP": {"cat": None, "dog": None}}
    assert second["values"] == [1, 2]


def test_folder_holds_settings_and_environment(tmp_path):
    config = replace(PRESETS["demo"].config, out=str(tmp_path / "a" / "run"))
    run = tmp_path / "a" / "run"
    start_run_folder(run, config)
    assert read_config(run) == config
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"]
    assert (run / "checkpoints").is_dir()
    with pytest.raises(InputError, match="holds a run already"):
        start_run_folder(run, config)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        start_run_folder(tmp_path / "file" / "run", PRESETS["demo"].config)


def test_full_disk(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = RunLog(tmp_path)
    with pytest.raises(InputError, match=r"log\.jsonl could not be written: No space left"):
        log.event("train", step=1)


def test_log_that_cannot_be_opened(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(InputError, match=r"log\.jsonl could not be opened: Is a directory"):
        RunLog(tmp_path)
