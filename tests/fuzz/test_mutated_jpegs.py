"""A seeded share of the mutated files of ``make fuzz``: each gives a picture or a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fuzz.mutations import mutated, seeds

ROOT = Path(__file__).parents[2]


def test_mutated_files_give_a_picture_or_a_reason():
    command = [sys.executable, "-m", "tests.fuzz", "70", "--one-process"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert sum(found.values()) - found["set aside for a region alone"] == 70
    assert min(found["decoded"], found["set aside"]) >= 10


def test_a_mutation_is_a_function_of_its_seed():
    files = seeds()
    assert [mutated(files, seed) for seed in range(50)] == [mutated(seeds(), seed) for seed in range(50)]
    assert len({mutated(files, seed) for seed in range(50)}) > 45
