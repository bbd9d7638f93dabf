"""Files that are either whole or absent, also after a crash or a power cut."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pumlc.errors import InputError

_WRITING = ".writing"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, bring it to disk, and rename it.

    Raises:
        InputError: it could not be written; what was at ``path`` stays and the temporary file is gone.
    """
    temporary = _temporary(path)
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
        _raise_for_disk(path, error)
        raise


def link_atomically(source: Path, path: Path) -> None:
    """Make ``path`` the file ``source`` by another name, or a copy where the file system knows no such links.

    Raises:
        InputError: as for :func:`write_atomically`.
    """
    temporary = _temporary(path)
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # which stays where both were names of one file already
        _sync_folder(path.parent)
    except OSError as error:
        _raise_for_disk(path, error)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed."""
    for path in folder.glob(f".*{_WRITING}"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Within the block, an error of the disk becomes an InputError: ``path`` could not be …, such as "written"."""
    try:
        yield
    except Exception as error:
        _raise_for_disk(path, error, action)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{_WRITING}")


def _raise_for_disk(path: Path, error: BaseException, action: str = "written") -> None:
    """Raise an InputError if ``error`` is of the disk, and not of what was to be written."""
    reason = disk_error(error)
    if reason is None:
        return
    try:
        room = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB free"
    except OSError:
        room = f"{path.parent} is not there any more"
    raise InputError(
        f"{path} could not be {action}: {reason.strerror or reason} ({room}). "
        "What was saved before is untouched; make room and go on with --resume."
    ) from error


def disk_error(error: BaseException) -> OSError | None:
    """The OSError behind ``error``: torch.save raises a RuntimeError for a full disk and has it as the context."""
    if isinstance(error, InputError):  # which says so already
        return None
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
