"""A process that hangs or dies is noticed by the others, and named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from pumlc.engine import LostProcessError
from pumlc.engine.roll_call import roll_call
from pumlc.errors import InputError

ROOT = Path(__file__).parents[2]
BROKEN = "[third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3"


def ends(store: dist.Store, rank: int, error: Exception, size: int = 3) -> str:
    """What this rank says when an error leaves the block."""
    with pytest.raises((InputError, RuntimeError)) as caught, roll_call(store, rank, size, patience=0.3):
        raise error
    return str(caught.value)


def test_the_silent_one_is_named():
    store = dist.HashStore()
    store.set("gave up/2", "lost")
    assert "process 1 of 3 does not answer: it hangs or was killed" in ends(store, 0, RuntimeError(BROKEN))


def test_several_are_named():
    assert "process 0, 2 of 3 does not answer" in ends(dist.HashStore(), 1, RuntimeError(BROKEN))


def test_one_that_ended_with_an_error_is_told_from_one_that_hangs():
    store = dist.HashStore()
    assert ends(store, 2, InputError("no such file")) == "no such file"
    assert "process 2 of 3 ended with an error: see its message" in ends(store, 0, RuntimeError(BROKEN))


def test_other_errors_are_left_alone_and_known_to_be_errors():
    store = dist.HashStore()
    assert ends(store, 1, RuntimeError("shapes do not match")) == "shapes do not match"
    assert "process 1 of 2 ended with an error: see its message" in ends(store, 0, RuntimeError(BROKEN), size=2)
    with pytest.raises(LostProcessError), roll_call(dist.HashStore(), 0, 2, patience=0.1):
        raise RuntimeError(BROKEN)


def run_rank(rank: int, port: int, data: Path, out: Path) -> subprocess.Popen:
    words = (
        "--backbone test_resnet --image-size 32 --batch-size 3 --epochs 10000 --threads 1 --device cpu --log-every 1"
    )
    return subprocess.Popen(
        [sys.executable, "train.py", "csv", "--data", data, "--out", out, "--timeout-minutes", "0.12", *words.split()],
        cwd=ROOT,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hung", "message"),
    [
        (1, "process 1 of 2 does not answer: it hangs or was killed"),
        (0, "the process that the others meet at, process 0 or its torchrun, does not answer"),  # no torchrun here
    ],
)
def test_a_process_that_hangs(hung, message, picture_table, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = (run_rank(rank, port, picture_table, tmp_path / "run") for rank in range(2))
    try:
        deadline = time.monotonic() + 100
        while not list((tmp_path / "run").glob("checkpoints/step-*")):
            assert first.poll() is None, first.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (first, second)[hung].send_signal(signal.SIGSTOP)
        other = (second, first)[hung]
        _, errors = other.communicate(timeout=60)
    finally:
        for process in (first, second):
            process.kill()
    assert other.returncode == 1
    assert f"[process {1 - hung}] error: {message}" in errors
