"""Stands for a decoder in the processes of a check, which import this file alone."""

from __future__ import annotations

import os
import signal
import time


def grim(path: str, max_megapixels: float) -> str | None:
    """Examines a picture in the way that its name says."""
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "leave" in path:
        os._exit(3)
    if "hang" in path:
        time.sleep(600)
    if "hog" in path:
        try:
            return f"took {len(bytearray(16 << 30))} bytes"
        except MemoryError:
            return "was refused memory"
    return None
