"""The small form of ``python -m tests.chaos``; and that it sees what it is there to see."""

from __future__ import annotations

import shutil
import signal

import pytest

from pumlc.engine.checkpoint import find_checkpoint
from pumlc.engine.log import read_events
from tests.chaos.processes import kill, ranks_of, start, wait_until, wait_until_gone
from tests.chaos.torment import NOTICE, PATIENCE, SETTINGS, Torment, last_step


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(picture_table, tmp_path):
    """One process of three is killed, and torchrun starts all again."""
    torment = Torment(picture_table, tmp_path, epochs=4, processes=3, flags=["--train-all"])
    outcome = torment.run(kills=["one"])
    assert outcome.is_good, outcome.summary()
    assert (outcome.kills, outcome.of_one_process) == (1, 1)


@pytest.mark.slow
def test_sigterm_has_a_status_of_its_own(picture_table, tmp_path):
    """Of train.py itself; torchrun ends with one of its own."""
    words = ["csv", *SETTINGS.split(), "--data", picture_table, "--epochs", 10_000, "--out", tmp_path / "run"]
    job = start(words, tmp_path / "output.txt", processes=1)
    try:
        wait_until(lambda: job.poll() is not None or last_step(tmp_path / "run") > 0, PATIENCE)
        job.send_signal(signal.SIGTERM)
        assert job.wait(NOTICE) == 143, (tmp_path / "output.txt").read_text()
    finally:
        kill(job.pid)
    assert find_checkpoint(tmp_path / "run" / "checkpoints").damaged == {}


@pytest.mark.slow
def test_processes_end_with_their_torchrun(picture_table, tmp_path):
    words = ["csv", *SETTINGS.split(), "--data", picture_table, "--epochs", 10_000, "--out", tmp_path / "run"]
    job = start(words, tmp_path / "output.txt", processes=2)
    wait_until(lambda: job.poll() is not None or last_step(tmp_path / "run") > 0, PATIENCE)
    ranks = list(ranks_of(job).values())
    assert len(ranks) == 2
    kill(job.pid)
    job.wait()
    try:
        wait_until_gone(ranks, NOTICE)
    finally:
        for rank in ranks:
            kill(rank)
    assert read_events(tmp_path / "run")[-1]["event"] == "interrupted"


def test_what_differs_is_counted(picture_table, tmp_path):
    from pumlc.engine.trainer import fit
    from tests.engine.runs import tiny_run

    torment = Torment(picture_table, tmp_path, epochs=1)
    assert fit(tiny_run(picture_table, torment.calm)) == 0
    shutil.copytree(torment.calm, torment.wild)
    torment.compare()
    assert torment.outcome.is_good
    assert torment.outcome.losses == 5

    path = torment.wild / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))  # a loss is missing
    torment.outcome.differing = 0
    torment.compare()
    assert torment.outcome.differing > 0
    assert torment.outcome.is_same_end
    assert not torment.outcome.is_good
