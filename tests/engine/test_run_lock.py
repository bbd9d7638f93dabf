"""Two runs never write into one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pumlc.engine.run_lock import FILE, lock
from pumlc.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from pumlc.engine.run_lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_one_is_refused_by_name(holder, tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path / 'run'} is in use by process {holder.pid} on "):  # noqa: SIM117
        with lock(tmp_path / "run", patience=0.3):
            pytest.fail("both hold it")


def test_the_second_one_waits_for_the_end_of_the_first(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    began = time.monotonic()
    with lock(tmp_path / "run"):
        assert (tmp_path / "run" / FILE).exists()
    assert time.monotonic() - began < 10


def test_nothing_is_left_of_it(tmp_path):
    run = tmp_path / "runs" / "run"
    with lock(run):
        assert run.is_dir()
    assert not run.exists()
    with lock(run):
        (run / "config.json").write_text("{}")
    assert [path.name for path in run.iterdir()] == ["config.json"]
    with lock(run):
        pass
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_one_that_came_between_is_noticed(tmp_path, monkeypatch):
    """The file that was opened is removed before it is locked: a third one would find no lock there."""
    run, opened = tmp_path / "run", []
    system_open = os.open

    def open_and_lose_it_once(path, *arguments):
        descriptor = system_open(path, *arguments)
        opened.append(Path(path))
        if len(opened) == 1:
            os.unlink(path)
        return descriptor

    monkeypatch.setattr("pumlc.engine.run_lock.os.open", open_and_lose_it_once)
    with lock(run):
        assert len(opened) == 2
        assert (run / FILE).exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"The run folder .*file/run cannot be written: Not a directory"):  # noqa: SIM117
        with lock(tmp_path / "file" / "run"):
            pytest.fail("it is there")
