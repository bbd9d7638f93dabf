"""One run folder, one run: a second one that is started in it waits for a moment, and is refused."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pumlc.errors import InputError

try:
    import fcntl
except ImportError:  # no lock where the system has none
    fcntl = None

FILE = ".lock"
PATIENCE = 40.0  # seconds: a run that was told to end saves itself first
_LOOK_AGAIN = 0.2
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@contextlib.contextmanager
def lock(run: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a run folder within the block, and make it if need be; a process that is killed lets go of it too.

    A folder that was made for the block, and is empty at its end, is gone then.

    Args:
        patience: seconds to wait for whoever holds it.

    Raises:
        InputError: another process holds it, which the message names, or it cannot be written.
    """
    try:
        is_new = not run.is_dir()
        run.mkdir(parents=True, exist_ok=True)
        descriptor = _take(run / FILE, time.monotonic() + patience)
    except OSError as error:
        raise InputError(f"The run folder {run} cannot be written: {error.strerror}. Choose another --out.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (run / FILE).unlink(missing_ok=True)
            if is_new and not any(run.iterdir()):
                run.rmdir()
        os.close(descriptor)


def _take(path: Path, deadline: float) -> int:
    """The open file ``path``, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _is_locked(descriptor, path):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return descriptor
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
                raise InputError(
                    f"The run folder {path.parent} is in use by {holder}. End that one first, or choose another --out."
                )
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_LOOK_AGAIN)


def _is_locked(descriptor: int, path: Path) -> bool:
    """Lock the open file, unless another process has, or who had has removed it since it was opened."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return True  # a file system without locks
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def end_with_parent() -> None:
    """Have this process, one of torchrun's, told to end by SIGTERM when torchrun is killed; Linux alone can."""
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it was killed in between
        os.kill(os.getpid(), signal.SIGTERM)
