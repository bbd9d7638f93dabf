"""The pictures that cannot be used: their file, and what takes their place."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pumlc.data.picture import PassingReason
from pumlc.errors import InputError

FILE = "quarantine.tsv"
MAX_SHARE = 0.01
HEADER = ["file", "reason", "sha256"]
NAMED = 20  # how many files a message lists
_CHUNK = 1 << 20


class _Row(NamedTuple):
    """What is known of a picture."""

    name: str  # relative to the data folder, or absolute
    reason: str
    content: str = ""  # SHA-256 of the file; empty in a list that was written by hand


def read_quarantine(path: Path, root: str | os.PathLike[str]) -> dict[str, str]:
    """Reason by absolute path of the picture; names are relative to the data folder ``root``.

    What is said of a content that the file does not have any more is left out: it was repaired, or another one took its
    place.

    Raises:
        InputError: there is no such file, or it was not written as a quarantine; the line is named.
    """
    try:
        rows = _read_rows(path)
    except (OSError, csv.Error) as error:
        raise InputError(f"The quarantine {path} cannot be read: {error}.") from error
    if not rows or rows[0][:2] != HEADER[:2]:
        raise InputError(f"{path} does not begin with the line 'file<tab>reason': it is not a quarantine.")
    for number, row in enumerate(rows[1:], start=2):
        if not _is_whole(row):
            raise InputError(f"{path}, line {number}: {len(row)} fields; a file, a tab and a reason were wanted.")
    return _believed((_Row(*row) for row in rows[1:]), root)


def read_record(path: Path, root: str | os.PathLike[str]) -> dict[str, str]:
    """As :func:`read_quarantine` of what a run has kept for itself; what is damaged of it or absent is passed over.

    Nothing is lost by that: a picture that is not named there is met again.
    """
    return _believed(_whole_rows(path), root)


def add_to_record(path: Path, root: str | os.PathLike[str], reasons: Mapping[str, str]) -> None:
    """Add ``reasons`` by path to what a run has kept for itself, at once; raises InputError."""
    rows = {row.name: row for row in (*_whole_rows(path), *_rows(root, reasons))}
    _replace(path, rows.values())


def write_quarantine(path: Path, root: str | os.PathLike[str], reasons: Mapping[str, str]) -> None:
    """Replace the file at once by ``reasons`` by path; raises InputError."""
    _replace(path, _rows(root, reasons))


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file, dialect="excel-tab"))


def _is_whole(row: Sequence[str]) -> bool:
    return len(row) in (len(HEADER) - 1, len(HEADER)) and bool(row[0])


def _whole_rows(path: Path) -> list[_Row]:
    """Those rows of a run's own list that are as they were written."""
    try:
        header, *rows = _read_rows(path)
    except (OSError, ValueError, csv.Error):
        return []
    return [_Row(*row) for row in rows if header[:2] == HEADER[:2] and _is_whole(row) and len(row) == len(header)]


def _believed(rows: Iterable[_Row], root: str | os.PathLike[str]) -> dict[str, str]:
    """Reason by absolute path of the pictures that still have the content of which it was said."""
    by_path = {_absolute(os.path.join(root, row.name)): row for row in rows}
    return {path: row.reason for path, row in by_path.items() if row.content in ("", _content(path))}


def _rows(root: str | os.PathLike[str], reasons: Mapping[str, str]) -> list[_Row]:
    """Without those files whose content cannot be read, of which nothing can be said."""
    rows = (_Row(_relative(path, root), reason, _content(path)) for path, reason in reasons.items())
    return [row for row in rows if row.content]


def _content(path: str) -> str:
    """What tells the content of a file from any other; empty where it cannot be read."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError:
        return ""
    return found.hexdigest()


def _replace(path: Path, rows: Iterable[_Row]) -> None:
    """Write the whole file, to disk before it takes the place of the old one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, dialect="excel-tab", lineterminator="\n").writerows([HEADER, *rows])
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"The quarantine {path} cannot be written: {error.strerror}.") from error


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _relative(path: str, root: str | os.PathLike[str]) -> str:
    """Below the data folder, names are relative to it, so that the folder can move."""
    inside = os.path.relpath(path, root)
    return _absolute(path) if inside.startswith(os.pardir) else inside


def check_reachable(root: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]]) -> None:
    """Raise InputError if the data folder is gone, or the one in which all the pictures ``paths`` lie.

    A folder with nothing in it is gone too: so looks the place of a file system that is not mounted.
    """
    common = os.path.commonpath({os.path.dirname(_absolute(path)) for path in paths})
    for folder in (os.fspath(root), common):
        try:
            with os.scandir(folder) as entries:
                found = None if any(True for _ in entries) else "it is empty"
        except OSError as error:
            found = error.strerror
        if found is not None:
            raise InputError(
                f"The data folder {folder} is gone: {found}. No picture was set aside for that, and what was saved "
                "before is untouched: bring it back and go on, a run with --resume."
            )


class Quarantine:
    """The unusable images of one split, which grows while the images are read.

    Args:
        paths: N image files.
        root: the data folder.
        split: its name, for messages.
        known: reasons by absolute path, of earlier runs and checks; may name files of other splits.
        max_share: most unusable images, as a share of N.
        record: the run's own file, which each new one is added to whose reason is of its content; None: none.
        announce: called with the path and the reason of each new one.

    Raises:
        InputError: too many are known to be unusable already.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        root: str | os.PathLike[str],
        split: str,
        *,
        known: Mapping[str, str] | None = None,
        max_share: float = MAX_SHARE,
        record: Path | None = None,
        announce: Callable[[str, str], object] = lambda path, reason: None,
    ) -> None:
        self.reasons: dict[int, str] = {}
        """Reason by row."""
        self.bad = np.zeros(len(paths), dtype=bool)
        """[N], True where the image cannot be used."""
        self.paths, self._root, self._split = paths, root, split
        self._max_share, self._record, self._announce = max_share, record, announce
        if known:
            names = (_absolute(path) for path in paths)
            self._set_aside({row: known[name] for row, name in enumerate(names) if name in known})

    def add(self, reasons: Mapping[int, str]) -> None:
        """Set the images of these rows aside; those that are new are recorded and announced.

        Those that could not be reached are not recorded: a process that begins later looks at them again.

        Raises:
            InputError: now too many are unusable, and are listed; or the folder in which they lie is gone.
        """
        new = {row: reason for row, reason in reasons.items() if row not in self.reasons}
        by_path = {os.fspath(self.paths[row]): reason for row, reason in new.items()}
        lasting = {path: reason for path, reason in by_path.items() if not isinstance(reason, PassingReason)}
        if len(lasting) < len(by_path):
            check_reachable(self._root, self.paths)
        if lasting and self._record is not None:
            add_to_record(self._record, self._root, lasting)
        for path, reason in by_path.items():
            self._announce(path, reason)
        self._set_aside(new)

    def _set_aside(self, reasons: Mapping[int, str]) -> None:
        self.reasons |= reasons
        self.bad[list(reasons)] = True
        count = len(self.reasons)
        if count > self._max_share * len(self.bad) or count == len(self.bad) > 0:
            listed = [f"  {os.fspath(self.paths[row])} {self.reasons[row]}" for row in list(self.reasons)[:NAMED]]
            more = [f"  and {count - NAMED} more"] if count > NAMED else []
            raise InputError(
                f"{count} of {len(self.bad)} {self._split} images cannot be used, {count / len(self.bad):.1%}; "
                f"--max-bad-share allows {self._max_share:.1%}. Repair them, or allow more:\n"
                + "\n".join(listed + more)
            )


def stand_ins(order: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """[N] int64: for each row the image that is seen in its place, itself where it is usable.

    Instead of a bad image that is the next good one in ``order`` [N], a permutation, after the last the first. It
    depends on ``order`` and on which images are ``bad``, [N] bool and one of them False, not on when they turned out
    to be.
    """
    good = np.flatnonzero(~bad[order])
    seen = np.empty_like(order)
    seen[order] = order[good[np.searchsorted(good, np.arange(len(order))) % len(good)]]
    return seen
