"""Checkpoints: named by their step, with a checksum at their end, the newest whole one found again.

A checkpoint is a file of torch.save with one line more, which torch.load does not see: the SHA-256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from pumlc.engine.whole_files import write_atomically
from pumlc.errors import InputError, require

KEPT = 2
_BEFORE, _AFTER = b"\nsha256 ", b"\n"
_SEAL_SIZE = len(_BEFORE) + 2 * hashlib.sha256().digest_size + len(_AFTER)
_CHUNK = 1 << 20  # bytes


class _Sealed:
    """What torch.save writes into: passes everything on and adds it to the checksum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def seal(self) -> None:
        """Write the checksum of what was written."""
        self._file.write(_seal(self._hash))


def _seal(of: hashlib._Hash) -> bytes:
    return _BEFORE + of.hexdigest().encode() + _AFTER


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = KEPT) -> Path:
    """Write ``state`` as the checkpoint after ``step`` optimiser steps and drop all but the last ``keep`` up to it.

    Those of higher steps stay, which are there where a run goes on under a lower number.

    Raises:
        InputError: it could not be written; all that were there stay.
    """

    def write(file: BinaryIO) -> None:
        sealed = _Sealed(file)
        torch.save(state, sealed)
        sealed.seal()

    path = checkpoint_path(folder, step)
    write_atomically(path, write)
    for old in [each for each in checkpoints(folder) if step_of(each) <= step][:-keep]:
        old.unlink()
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint, or of weights that are kept beside it."""
    return int(path.stem.split("-")[1])


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, oldest first, damaged ones among them."""
    return sorted(folder.glob("step-*.pt"), key=step_of)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint ``path``; None where it is as it was written."""
    try:
        left = path.stat().st_size - _SEAL_SIZE
        content = hashlib.sha256()
        with path.open("rb") as file:
            while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                content.update(chunk)
                left -= len(chunk)
            seal = file.read()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not (seal.startswith(_BEFORE) and seal.endswith(_AFTER)):
        return "is truncated or damaged (there is no checksum at its end)"
    return None if seal == _seal(content) else "is damaged (its checksum is not that of its content)"


class Newest(NamedTuple):
    """The checkpoint to go on from."""

    path: Path | None  # None where there is no whole one
    damaged: dict[Path, str]  # newer ones, newest first, and what is wrong with them


def newest_whole(folder: Path) -> Newest:
    """The newest checkpoint in ``folder`` whose checksum is right; older ones are not looked at."""
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoints(folder)):
        wrong = damage(path)
        if wrong is None:
            return Newest(path, damaged)
        damaged[path] = wrong
    return Newest(None, damaged)


def find_checkpoint(folder: Path) -> Newest:
    """As :func:`newest_whole`; raises InputError where no checkpoint is whole."""
    newest = newest_whole(folder)
    if newest.path is not None:
        return newest
    if not newest.damaged:
        raise InputError(f"There is no checkpoint in {folder}, so there is nothing to resume.")
    path, wrong = next(iter(newest.damaged.items()))
    others = len(newest.damaged) - 1
    rest = f"and so {'is the other one' if others == 1 else f'are the {others} others'}" if others else "the only one"
    raise InputError(f"The checkpoint {path} {wrong}, {rest}. Nothing can be resumed from {folder}: start anew.")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What :func:`save_checkpoint` wrote, on the CPU; nothing in a file can run code. Raises InputError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its first bad byte leads to
        raise InputError(f"The checkpoint {path} is truncated or damaged and cannot be read.") from error


def load_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The newest whole checkpoint in ``folder``, on the CPU; raises InputError if there is none."""
    path = find_checkpoint(folder).path
    return path, read_checkpoint(path)


def set_aside(damaged: Sequence[Path]) -> None:
    """Rename damaged checkpoints, so that they are no longer taken for some, and can be looked into."""
    for path in damaged:
        path.replace(path.with_name(f"{path.name}.damaged"))


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file whose header holds each value of ``metadata`` as JSON."""
    safetensors = require("safetensors.torch", "safetensors")
    header = {key: json.dumps(value) for key, value in metadata.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.save(plain, metadata=header)
    write_atomically(path, lambda file: file.write(data))
