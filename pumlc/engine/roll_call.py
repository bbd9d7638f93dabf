"""Which process is missing, once the others have waited for it in vain."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator

import torch.distributed as dist

from pumlc.engine import LostProcessError

PATIENCE = 5.0  # seconds between the first process that gives up and the last one
_LOOK_AGAIN = 0.1


@contextlib.contextmanager
def roll_call(store: dist.Store, rank: int, size: int, patience: float = PATIENCE) -> Iterator[None]:
    """Within the block, an exchange between processes that fails ends in an error that names those that are missing.

    Processes that wait for the same one give up at about the same time, and say so in the store; one that ends by an
    error of its own says so too. Who is silent hangs or is dead.

    Raises:
        LostProcessError: in place of the error of the exchange.
    """
    try:
        yield
    except BaseException as error:
        lost = _is_of_exchange(error)
        answer = _within(2 * patience, lambda: _report_and_ask(store, rank, size, patience, lost))
        if not lost:
            raise
        raise LostProcessError(answer) from error


def _is_of_exchange(error: BaseException) -> bool:
    """Whether another process may be the cause; gloo's errors are plain RuntimeErrors."""
    if isinstance(error, dist.DistError):
        return True
    return type(error) is RuntimeError and any(word in str(error).lower() for word in ("gloo", "nccl", "connection"))


def _within(seconds: float, function: Callable[[], str]) -> str:
    """What ``function`` says, or that nothing was to be heard: a store whose process hangs never answers."""
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: answers.put(function()), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return (
            "the process that the others meet at, process 0 or its torchrun, does not answer: it hangs or its machine "
            "is gone. Go on from the last checkpoint with --resume."
        )


def _report_and_ask(store: dist.Store, rank: int, size: int, patience: float, lost: bool) -> str:
    try:
        store.set(f"gave up/{rank}", "lost" if lost else "error")
        return _explain(store, rank, size, patience) if lost else ""
    except Exception:  # torch has several; the store went with the process that holds it
        return "the process that the others meet at is gone. Its own message says why, if it had time for one."


def _explain(store: dist.Store, rank: int, size: int, patience: float) -> str:
    others = set(range(size)) - {rank}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not all(store.check([f"gave up/{other}"]) for other in others):
        time.sleep(_LOOK_AGAIN)
    silent = [other for other in sorted(others) if not store.check([f"gave up/{other}"])]
    failed = [other for other in sorted(others - set(silent)) if store.get(f"gave up/{other}") == b"error"]
    if failed:
        return f"process {_list(failed)} of {size} ended with an error: see its message."
    if silent:
        return (
            f"process {_list(silent)} of {size} does not answer: it hangs or was killed. Go on from the last "
            "checkpoint with --resume; a process that is only slow wants a higher --timeout-minutes."
        )
    return "the connection between the processes broke, and all of them noticed. Go on with --resume."


def _list(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
