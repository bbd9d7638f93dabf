"""Word vectors of the classes: from an array, or from a text file in the format of GloVe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pumlc.errors import InputError

NAMES_SHOWN = 8


class WordVectors(NamedTuple):
    vectors: np.ndarray  # [C, size] float32
    missing: tuple[str, ...]  # classes of which no word has a vector: they have the mean of the others'
    partial: tuple[str, ...]  # classes of several words, some without a vector: they have the mean of the others

    def summary(self) -> str:
        """One line for the log of a run."""
        text = f"words: vectors of {len(self.vectors) - len(self.missing)} of {len(self.vectors)} classes"
        if self.missing:
            text += f"; NOT FOUND, so the mean of the others stands in: {_some(self.missing)}"
        if self.partial:
            text += f"; from only some of their words: {_some(self.partial)}"
        return text


def read_word_vectors(path: str | os.PathLike, class_names: Sequence[str], *, size: int = 300) -> WordVectors:
    """A vector for each class.

    ``path`` is a NumPy array file (``.npy``) with a row for each class in the order of ``class_names``, or a text file
    with a word and ``size`` numbers a line, as GloVe comes. The text is read once, line by line, and only the lines
    of the words needed are parsed.

    Names are matched whatever their case; a word in small letters is preferred to the same one in capitals. A name of
    several words, apart by spaces, underscores or slashes, has the mean of their vectors; a word with hyphens that is
    not in the file is taken apart too. A class of which no word is in the file has the mean of the other classes'
    vectors: nothing random, and nothing that is far from what the network sees otherwise. Such classes are told apart
    by their own linear units alone, so they are named.

    Raises:
        InputError: the file is not there, cannot be read, does not fit, or has none of the words.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file of word vectors {path}.")
    if path.suffix == ".npy":
        return WordVectors(_read_array(path, class_names, size), (), ())
    words = [_words(name) for name in class_names]
    needed = {part for name in words for word in name for part in (word, *word.split("-"))}
    found = _read_text(path, needed, size)
    return _of_classes(path, class_names, words, found)


def _words(name: str) -> list[str]:
    return name.lower().replace("_", " ").replace("/", " ").split()


def _read_array(path: Path, class_names: Sequence[str], size: int) -> np.ndarray:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array of word vectors: {error}") from error
    if vectors.shape != (len(class_names), size) or not np.issubdtype(vectors.dtype, np.number):
        raise InputError(
            f"{path} holds {vectors.dtype} {list(vectors.shape)}; numbers [{len(class_names)}, {size}] were wanted, "
            "a row for each class in the order of the data."
        )
    vectors = vectors.astype(np.float32)
    if not np.isfinite(vectors).all():
        row = int((~np.isfinite(vectors)).any(1).argmax())
        raise InputError(f"{path} holds numbers that are not finite in row {row} ({class_names[row]}).")
    return vectors


def _read_text(path: Path, needed: set[str], size: int) -> dict[str, np.ndarray]:
    """The vectors of the words ``needed``, which are in small letters."""
    found: dict[str, np.ndarray] = {}
    exact: set[str] = set()  # those found in small letters
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # bytes, so that a file of gigabytes is not decoded for the sake of a few lines
                token = line.split(b" ", 1)[0].decode("utf-8", "replace").strip()
                word = token.lower()
                if word not in needed or word in exact or (word in found and token != word):
                    continue
                fields = line.split()
                if len(fields) > size + 1:
                    continue  # a token with spaces in it
                found[word] = _parse(path, number, token, fields[1:], size)
                if token == word:
                    exact.add(word)
                if exact == needed:
                    break
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return found


def _parse(path: Path, number: int, token: str, fields: list[bytes], size: int) -> np.ndarray:
    try:
        vector = np.array([float(field) for field in fields], np.float32)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: the vector of {token!r} has something other than numbers.") from error
    if len(vector) != size or not np.isfinite(vector).all():
        raise InputError(
            f"{path}, line {number}: {token!r} has {len(vector)} numbers"
            f"{'' if np.isfinite(vector).all() else ', some not finite'}; {size} were wanted."
        )
    return vector


def _of_classes(
    path: Path, class_names: Sequence[str], words: list[list[str]], found: dict[str, np.ndarray]
) -> WordVectors:
    vectors, missing, partial = [], [], []
    for name, parts in zip(class_names, words, strict=True):
        parts = [piece for word in parts for piece in ([word] if word in found else word.split("-"))]
        known = [found[part] for part in parts if part in found]
        if not known:
            missing.append(name)
        elif len(known) < len(parts):
            partial.append(name)
        vectors.append(np.mean(known, 0, dtype=np.float64) if known else None)
    present = [vector for vector in vectors if vector is not None]
    if not present:
        raise InputError(
            f"{path} has a vector for none of the {len(class_names)} classes ({_some(class_names)}). Wanted a line "
            "for each word: the word, then its numbers, with spaces between."
        )
    mean = np.mean(present, 0)
    table = np.stack([mean if vector is None else vector for vector in vectors])
    return WordVectors(table.astype(np.float32), tuple(missing), tuple(partial))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
