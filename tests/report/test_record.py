"""The log as it is read: runs that were interrupted, more than once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pumlc.engine.log import RunLog
from pumlc.report.record import Record, read_run
from tests.report.runs import write_run


@pytest.fixture
def run(picture_table, tmp_path) -> Path:
    return write_run(tmp_path / "run", picture_table, finished=False)


def steps(record: Record) -> list[float]:
    return [place for place, event in record.positions if event["event"] == "train"]


def test_places_are_epochs(run):
    assert steps(read_run(run)) == pytest.approx([step / 5 for step in range(1, 11)])


def test_steps_that_were_taken_again_are_shown_once(run):
    log = RunLog(run)
    log.event("resume", step=8, steps_per_epoch=5)
    for step in (9, 10):
        log.event("train", epoch=2, step=step, loss=7.0)
    # with twice as many processes, the second epoch has been half done
    log.event("resume", step=4, steps_per_epoch=3)
    log.event("train", epoch=2, step=5, loss=8.0)
    log.close()
    record = read_run(run)
    assert steps(record) == pytest.approx([*(step / 5 for step in range(1, 7)), 5 / 3])
    assert [event["loss"] for _, event in record.positions if event["event"] == "train"][-1] == 8.0


def test_a_run_that_goes_on_has_not_ended(run):
    log = RunLog(run)
    log.event("end", step=10, split="test")
    assert read_run(run).end["step"] == 10
    log.event("resume", step=10, steps_per_epoch=5)
    assert read_run(run).end is None
    log.close()
    assert read_run(run).split == "test"
    (run / "environment.json").write_text("{")
    assert read_run(run).environment == {}
