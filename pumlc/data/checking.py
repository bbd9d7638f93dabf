"""Decodes many pictures in processes of their own, and remembers what came of each."""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from pumlc.data.picture import MAX_MEGAPIXELS, PassingReason, UnusablePictureError, read_picture
from pumlc.errors import InputError

PATIENCE = 60.0  # seconds for a picture
BYTES_PER_PIXEL = 12  # most that a decoder was seen to hold: progressive, CMYK, turned upright
BYTES_BESIDES = 512 << 20
FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})

Examine = Callable[[str, float], "str | None"]  # path, most megapixels -> the reason why it is unusable


class Verdict(NamedTuple):
    """What was found of a file of this size and time; both are -1 where another look may find otherwise."""

    size: int  # bytes
    mtime: int  # nanoseconds
    reason: str  # empty for a picture that can be used


class Job(NamedTuple):
    path: str
    verdict: Verdict  # but for the reason


Found = Callable[[str, Verdict], object]


def examine(path: str, max_megapixels: float) -> str | None:
    """Why the picture cannot be used; None where it can."""
    try:
        read_picture(path, max_megapixels)
    except UnusablePictureError as reason:
        return reason.reason
    return None


def check_pictures(
    paths: Iterable[str],
    *,
    workers: int,
    max_megapixels: float = MAX_MEGAPIXELS,
    known: Mapping[str, Verdict] | None = None,
    patience: float = PATIENCE,
    examine: Examine = examine,
    found: Found,
) -> None:
    """Decode every picture that is not ``known`` with its present size and time of change.

    A decoder that crashes, eats up memory or never ends takes down its own process, and the picture is named.

    Args:
        paths: picture files.
        workers: processes.
        known: verdicts by path.
        patience: most seconds for one picture.
        examine: what is done with one; an importable function.
        found: called with each path and its verdict, known or new, in no particular order.
    """
    context = multiprocessing.get_context("forkserver")  # this process may have threads, which a fork would lose
    context.set_forkserver_preload([__name__])
    crew: list[_Worker] = []
    try:
        for job in _to_examine(paths, known or {}, found):
            if len(crew) == workers:
                worker = _settled(crew, patience, found)
            else:
                worker = _Worker.start(context, max_megapixels, examine)
                crew.append(worker)
            worker.give(job)
        while any(worker.job for worker in crew):
            _settled(crew, patience, found)
    finally:
        for worker in crew:
            worker.end()


def _to_examine(paths: Iterable[str], known: Mapping[str, Verdict], found: Found) -> Iterable[Job]:
    """The pictures without a verdict, with their size and time; the others are reported."""
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            found(path, Verdict(-1, -1, PassingReason(f"cannot be read: {error.strerror}")))
            continue
        before = known.get(path)
        now = Verdict(status.st_size, status.st_mtime_ns, "")
        if before is not None and before[:2] == now[:2]:
            found(path, before)
        else:
            yield Job(path, now)


@dataclass
class _Worker:
    """A process that examines pictures, and the one that it is at."""

    process: BaseProcess
    connection: Connection
    restart: Callable[[], _Worker]
    job: Job | None = None
    since: float = 0.0

    @classmethod
    def start(cls, context, max_megapixels: float, examine: Examine) -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, max_megapixels, examine), daemon=True)
        process.start()
        theirs.close()
        ours.recv()  # its patience is for a picture, not for the start of the process
        return cls(process, ours, lambda: cls.start(context, max_megapixels, examine))

    def give(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        with suppress(BrokenPipeError):  # it ended while idle: seen as the crash that it is
            self.connection.send(job.path)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _settled(crew: list[_Worker], patience: float, found: Found) -> _Worker:
    """Report the verdict of a worker and return it, or a new one in its place if it came to grief."""
    busy = {worker.connection: worker for worker in crew if worker.job is not None}
    longest = min(busy.values(), key=lambda worker: worker.since)
    ready = wait(busy, timeout=max(0.0, longest.since + patience - time.monotonic()))
    worker = busy[ready[0]] if ready else longest
    (path, verdict), worker.job = worker.job, None
    answer = _answer(worker, patience)
    if not answer.is_alive:
        worker.end()
        crew[crew.index(worker)] = worker = worker.restart()
    found(path, verdict._replace(reason=answer.reason) if answer.is_final else Verdict(-1, -1, answer.reason))
    return worker


class _Answer(NamedTuple):
    reason: str  # empty for a picture that can be used
    is_final: bool  # of this content, and not of the machine as it was then
    is_alive: bool  # the worker


def _answer(worker: _Worker, patience: float) -> _Answer:
    if not worker.connection.poll():
        return _Answer(f"takes longer than {patience:g} seconds to decode", is_final=False, is_alive=False)
    try:
        reason = worker.connection.recv() or ""
        return _Answer(reason, is_final=not isinstance(reason, PassingReason), is_alive=True)
    except (EOFError, ConnectionResetError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        final = code >= 0 or -code in FAULTS  # others come from outside, such as SIGKILL where memory is short
        return _Answer(f"makes its decoder crash ({how})", is_final=final, is_alive=False)


def _work(connection: Connection, max_megapixels: float, examine: Examine) -> None:
    """What a worker does: examine the pictures that it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's matter
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else None
    if pages is not None:
        limit = pages * resource.getpagesize() + round(max_megapixels * 1e6) * BYTES_PER_PIXEL + BYTES_BESIDES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    with suppress(EOFError, BrokenPipeError):
        connection.send(None)
        while True:
            connection.send(examine(connection.recv(), max_megapixels))


def read_verdicts(path: Path, max_megapixels: float) -> dict[str, Verdict]:
    """Verdicts of an earlier check by picture; none where the file is absent, damaged or of another limit."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *rows = csv.reader(file, dialect="excel-tab")
        if header != _header(max_megapixels):
            return {}
        return {name: Verdict(int(size), int(mtime), reason) for name, size, mtime, reason in rows}
    except (OSError, ValueError, csv.Error):
        return {}


def write_verdicts(path: Path, max_megapixels: float, verdicts: Mapping[str, Verdict]) -> None:
    """Replace the file at once, without what may be otherwise at another look; raises InputError."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
            writer.writerow(_header(max_megapixels))
            writer.writerows((name, *verdict) for name, verdict in verdicts.items() if verdict.size >= 0)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"What was checked cannot be kept in {path}: {error.strerror}.") from error


def _header(max_megapixels: float) -> list[str]:
    return ["file", "size", "mtime", f"reason (checked up to {max_megapixels:g} megapixels)"]
