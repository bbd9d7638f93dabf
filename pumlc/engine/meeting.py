"""How processes that torchrun has started find each other, also those that it has started again."""

from __future__ import annotations

import time
import uuid

import torch.distributed as dist

from pumlc.engine import LostProcessError

_ROUND = "round"
_LOOK_AGAIN = 0.05  # seconds


def meet(store: dist.Store, rank: int, size: int, seconds: float) -> dist.Store:
    """A store that these processes have for themselves, out of one that earlier ones have left their words in.

    torchrun starts processes again with the store that the killed ones used, and a process that reads there where
    another one can be reached may read of a dead one. Here the first process names a round that never was; each other
    one answers in it with a word of its own; and who hears that word again knows that the first one lives, and belongs
    to the round. Who has read the name of an old round hears nothing, and looks for a new name.

    Args:
        seconds: how long to wait for all.

    Raises:
        LostProcessError: some did not come in time; the first process names them.
    """
    deadline = time.monotonic() + seconds
    if rank == 0:
        return dist.PrefixStore(_call(store, size, deadline), store)
    word = uuid.uuid4().hex
    while time.monotonic() < deadline:
        if store.check([_ROUND]):
            name = store.get(_ROUND).decode()
            store.set(f"{name}/answer/{rank}", word)
            if store.check([f"{name}/heard/{word}"]):
                return dist.PrefixStore(name, store)
        time.sleep(_LOOK_AGAIN)
    raise LostProcessError(f"process 0 of {size} did not come to the meeting within {seconds:.0f} seconds.")


def _call(store: dist.Store, size: int, deadline: float) -> str:
    """Name a round and wait until all others have answered in it; returns its name."""
    name = uuid.uuid4().hex
    store.set(_ROUND, name)
    missing = set(range(1, size))
    while missing:
        if time.monotonic() > deadline:
            ranks = ", ".join(map(str, sorted(missing)))
            raise LostProcessError(f"process {ranks} of {size} did not come to the meeting: it hangs or was killed.")
        for rank in sorted(missing):
            if store.check([f"{name}/answer/{rank}"]):
                store.set(f"{name}/heard/{store.get(f'{name}/answer/{rank}').decode()}", "")
                missing.remove(rank)
        time.sleep(_LOOK_AGAIN)
    return name
