"""From the words of a command line to picture files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from pumlc.data.folders import EXTENSIONS

STDIN = "-"


class Names(NamedTuple):
    """What was asked for, each file once."""

    files: list[str]
    repeated: int  # how often a file was named again


def find_pictures(words: Iterable[str], stdin: BinaryIO, *, separator: bytes = b"\n") -> Names:
    """The files that are meant, in the order of ``words``; those of a folder or a pattern sorted.

    A word is a file, a folder (with all below it), a pattern with ``*``, ``?``, ``[…]`` or ``**``, or ``-`` for a list
    of such words but ``-`` in ``stdin``. What is none of them, is empty or matches nothing is kept as it is: reading it
    will say why it cannot be used.

    Args:
        separator: between the words in ``stdin``; empty ones are left out.
    """
    named = (name for word in words for name in _expand(word, stdin, separator))
    count = 0
    files: dict[str, str] = {}  # by absolute path
    for name in named:
        count += 1
        files.setdefault(os.path.abspath(name), name)
    return Names(list(files.values()), count - len(files))


def _expand(word: str, stdin: BinaryIO, separator: bytes) -> Iterator[str]:
    if word != STDIN:
        yield from _of_word(word)
        return
    for line in stdin.read().split(separator):
        line = line.removesuffix(b"\r") if separator == b"\n" else line
        if line:
            yield from _of_word(os.fsdecode(line))


def _of_word(word: str) -> Iterator[str]:
    found: Iterable[str] = ()
    if os.path.isdir(word):
        found = _below(word)
    elif not os.path.exists(word) and glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))
        found = (name for match in matches for name in (_below(match) if os.path.isdir(match) else (match,)))
    is_empty = True
    for name in found:
        is_empty = False
        yield name
    if is_empty:
        yield word


def _below(folder: str) -> Iterator[str]:
    """All pictures by their suffix; links to folders are not followed, hidden folders and files are left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield os.path.join(place, name)
