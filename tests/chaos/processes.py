"""train.py in processes of its own, and how they are found and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMPT = 0.002  # seconds between two looks


def start(words: Sequence[object], output: Path, *, processes: int = 2, max_restarts: int = 0) -> subprocess.Popen:
    """Start train.py with these words, under torchrun where it is more than one process; output is appended."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        launcher += [f"--max-restarts={max_restarts}", "--monitor-interval=0.1"]
    with output.open("ab") as file:
        return subprocess.Popen(
            [*launcher, str(ROOT / "train.py"), *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def ranks_of(job: subprocess.Popen) -> dict[int, int]:
    """Process ids of the ranks that a torchrun has started, by rank."""
    ranks = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0") if parent == job.pid else []
        except (OSError, ValueError):  # gone in between
            continue
        ranks |= {int(word[5:]): int(folder.name) for word in environment if word.startswith(b"RANK=")}
    return ranks


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_until_gone(pids: Sequence[int], seconds: float) -> None:
    wait_until(lambda: not any(_is_running(pid) for pid in pids), seconds)


def _is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Raises TimeoutError where it is still not so after this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds} seconds")
        time.sleep(PROMPT)
