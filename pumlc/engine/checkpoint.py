"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pumlc.errors import InputError, require

KEPT = 2


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, bring it to disk, and rename it.

    Raises:
        InputError: it could not be written; what was at ``path`` stays and the temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = disk_error(error)
        if reason is None:
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        raise InputError(
            f"{path} could not be written: {reason.strerror or reason} ({free:.0f} MB free). "
            "What was saved before is untouched; make room and go on with --resume."
        ) from error


def disk_error(error: BaseException) -> OSError | None:
    """The OSError behind ``error``: torch.save raises a RuntimeError for a full disk and has it as the context."""
    found = error if isinstance(error, OSError) else error.__context__
    return found if isinstance(found, OSError) else None


def _sync_folder(folder: Path) -> None:
    """Bring the rename to disk too; some file systems cannot, and then it is theirs to keep."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``step`` optimiser steps and drop all but the last two."""
    path = folder / f"step-{step:08d}.pt"
    write_atomically(path, lambda file: torch.save(state, file))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def load_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint in ``folder``, on the CPU; raises InputError if there is none or it is damaged."""
    found = checkpoints(folder)
    if not found:
        raise InputError(f"There is no checkpoint in {folder}, so there is nothing to resume.")
    path = found[-1]
    try:
        return path, torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever its first bad byte leads to
        advice = "Remove it to go on from the one before." if len(found) > 1 else "It is the only one: start anew."
        raise InputError(f"The checkpoint {path} is truncated or damaged and cannot be read. {advice}") from error


def check_fits(state: dict[str, Any], run: Path, class_names: Sequence[str], steps_per_epoch: int) -> None:
    """Raise InputError unless the checkpoint ``state`` of ``run`` is of these classes and this many steps."""
    if state["class_names"] != list(class_names):
        raise InputError(
            f"The run {run} has {len(state['class_names'])} classes ({', '.join(state['class_names'][:4])}, …), the "
            f"data {len(class_names)} ({', '.join(class_names[:4])}, …). Resume with the data that it began with."
        )
    if state["steps_per_epoch"] != steps_per_epoch:
        raise InputError(
            f"The run {run} has {state['steps_per_epoch']} steps per epoch, this would have {steps_per_epoch}. Resume "
            "with the same data and number of processes."
        )


def save_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file whose header holds each value of ``metadata`` as JSON."""
    safetensors = require("safetensors.torch", "safetensors")
    header = {key: json.dumps(value) for key, value in metadata.items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.save(plain, metadata=header)
    write_atomically(path, lambda file: file.write(data) and None)
