"""A seeded share of the mutated files of ``make fuzz``: each gives a picture or a reason."""

from __future__ import annotations

from tests.fuzz.mutations import mutated, seeds
from tests.fuzz.reading import read_all


def test_mutated_files_give_a_picture_or_a_reason(tmp_path):
    found = read_all(tmp_path, range(70))
    assert sum(found.values()) - found["set aside for a region alone"] == 70
    assert min(found["decoded"], found["set aside"]) >= 10


def test_a_mutation_is_a_function_of_its_seed():
    files = seeds()
    assert [mutated(files, seed) for seed in range(50)] == [mutated(seeds(), seed) for seed in range(50)]
    assert len({mutated(files, seed) for seed in range(50)}) > 45
