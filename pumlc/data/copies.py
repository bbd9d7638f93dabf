"""Copies of pictures in a temporary folder, which goes with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from pumlc.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

PREFIX = "pumlc-copies-"
_NEW = "pumlc-new-"  # until it is locked: nobody takes it for one that was left behind


class Copies:
    """A folder of copies without loss, made when the first one is kept.

    The folder is locked for as long as its process lives. One whose lock is free was left behind by a process that was
    killed, and is removed by the next that makes one there.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None

    def keep(self, name: str, picture: Image) -> Path:
        """The file of the copy.

        Raises:
            InputError: it cannot be written, which says nothing of the picture.
        """
        try:
            if self._folder is None or not self._folder.is_dir():
                self._folder = self._new_folder()
            path = self._folder / f"{name}.png"
            picture.save(path, compress_level=1)
        except OSError as error:
            raise InputError(
                f"A picture that Pillow alone can decode cannot be copied to the temporary folder "
                f"{tempfile.gettempdir()}: {error.strerror or error}. Make room there, or name another folder by the "
                "environment variable TMPDIR."
            ) from error
        return path

    def _new_folder(self) -> Path:
        remove_left_behind(Path(tempfile.gettempdir()))
        new = Path(tempfile.mkdtemp(prefix=_NEW))
        lock = None
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes there what is left behind
            lock = _lock(new)
        folder = new.rename(new.with_name(new.name.replace(_NEW, PREFIX)))
        weakref.finalize(self, _remove, folder, lock)
        return folder


def remove_left_behind(parent: Path) -> None:
    """Remove the folders of copies in ``parent`` whose processes are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, or another user's
            _remove(folder, _lock(folder))


def _lock(folder: Path) -> int:
    """Lock a folder and return the descriptor that holds the lock; raises OSError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)
