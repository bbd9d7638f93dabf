"""The pictures that cannot be used: their file, and what takes their place."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pumlc.errors import InputError

FILE = "quarantine.tsv"
MAX_SHARE = 0.01
HEADER = ["file", "reason"]
NAMED = 20  # how many files a message lists


def read_quarantine(path: Path, root: str | os.PathLike[str]) -> dict[str, str]:
    """Reason by absolute path of the picture; names are relative to the data folder ``root``.

    Raises:
        InputError: there is no such file, or it was not written as a quarantine; the line is named.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.reader(file, dialect="excel-tab"))
    except (OSError, csv.Error) as error:
        raise InputError(f"The quarantine {path} cannot be read: {error}.") from error
    if not rows or rows[0] != HEADER:
        raise InputError(f"{path} does not begin with the line 'file<tab>reason': it is not a quarantine.")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not row[0]:
            raise InputError(f"{path}, line {number}: {len(row)} fields; a file, a tab and a reason were wanted.")
    return {_absolute(os.path.join(root, name)): reason for name, reason in rows[1:]}


def write_quarantine(path: Path, root: str | os.PathLike[str], reasons: Mapping[str, str]) -> None:
    """Replace the file at once by ``reasons`` by path; raises InputError."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        _append(partial, root, reasons)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"The quarantine {path} cannot be written: {error.strerror}.") from error


def _append(path: Path, root: str | os.PathLike[str], reasons: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(HEADER)
        writer.writerows((_relative(name, root), reason) for name, reason in reasons.items())


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fspath(path))


def _relative(path: str, root: str | os.PathLike[str]) -> str:
    """Below the data folder, names are relative to it, so that the folder can move."""
    inside = os.path.relpath(path, root)
    return _absolute(path) if inside.startswith(os.pardir) else inside


class Quarantine:
    """The unusable images of one split, which grows while the images are read.

    Args:
        paths: N image files.
        root: the data folder.
        split: its name, for messages.
        known: reasons by absolute path, of earlier runs and checks; may name files of other splits.
        max_share: most unusable images, as a share of N.
        record: file that each new one is appended to; None: none.
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
        """Set the images of these rows aside, for good; those that are new are recorded and announced.

        Raises:
            InputError: now too many are unusable; they are listed.
        """
        new = {row: reason for row, reason in reasons.items() if row not in self.reasons}
        by_path = {os.fspath(self.paths[row]): reason for row, reason in new.items()}
        if by_path and self._record is not None:
            try:
                _append(self._record, self._root, by_path)
            except OSError as error:
                raise InputError(f"The quarantine {self._record} cannot be written: {error.strerror}.") from error
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
