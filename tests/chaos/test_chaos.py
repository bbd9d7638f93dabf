"""The small form of ``python -m tests.chaos``; and that it sees what it is there to see."""

from __future__ import annotations

import shutil

import pytest

from tests.chaos.torment import Torment


@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(picture_table, tmp_path):
    """One process is killed, and torchrun starts both again."""
    torment = Torment(picture_table, tmp_path, epochs=6, flags=["--mixup", "1"])
    outcome = torment.run(kills=["one"])
    assert outcome.is_good, outcome.summary()
    assert (outcome.kills, outcome.of_one_process) == (1, 1)


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
