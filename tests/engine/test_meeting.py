"""Processes find each other, and not those that are dead."""

from __future__ import annotations

import threading

import pytest
import torch.distributed as dist

from pumlc.engine import LostProcessError
from pumlc.engine.meeting import meet

SIZE = 3


def words(store: dist.Store, word: str) -> set[str]:
    """What the ranks read, each in the store that it got, where the first of them has written a word."""
    found = []

    def come(rank: int) -> None:
        own = meet(store, rank, SIZE, 20.0)
        if rank == 0:
            own.set("word", word)
        found.append(own.get("word").decode())

    threads = [threading.Thread(target=come, args=(rank,)) for rank in range(SIZE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == SIZE
    return set(found)


def test_every_round_has_a_store_of_its_own():
    store = dist.HashStore()
    assert words(store, "first") == {"first"}
    assert words(store, "second") == {"second"}


def test_answers_of_the_dead_do_not_count():
    """A round whose first process was killed when it had named it, and one that was killed having answered."""
    store = dist.HashStore()
    store.set("round", "old")
    for rank in (1, 2):
        store.set(f"old/answer/{rank}", "a word of a dead process")
        store.set("old/heard/a word of a dead process", "")
    with pytest.raises(LostProcessError, match="process 0 of 3 did not come"):
        meet(store, 1, SIZE, 0.3)
    assert words(store, "new") == {"new"}


def test_who_does_not_come_is_named():
    with pytest.raises(LostProcessError, match="process 1, 2 of 3 did not come to the meeting: it hangs or was killed"):
        meet(dist.HashStore(), 0, SIZE, 0.3)
