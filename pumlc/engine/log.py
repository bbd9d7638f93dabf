"""The run folder's text: settings, environment, and one JSON object per event."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import torch

import pumlc
from pumlc.engine.config import Config
from pumlc.engine.whole_files import disk_errors, write_atomically
from pumlc.errors import InputError

PACKAGES = ("torch", "timm", "nvidia-dali-cuda130", "numpy", "pycocotools", "safetensors")


NAME, LOST = "log.jsonl", "log.lost.jsonl"
ENVIRONMENT = "environment.json"
_OF_SAVING = ("checkpoint", "interrupted")  # events that follow the checkpoint that they are of


class Listener(Protocol):
    """Hears every event as it stands in the log."""

    def write(self, event: dict[str, Any]) -> object: ...

    def close(self) -> object: ...


class RunLog:
    """Appends to ``log.jsonl``; does nothing on ranks other than the first, where ``run`` is None."""

    def __init__(self, run: Path | None, listener: Listener | None = None) -> None:
        self._listener = listener
        self._file = None
        if run is not None:
            with disk_errors(run / NAME, "opened"):
                self._file = (run / NAME).open("a", encoding="utf-8")

    def event(self, name: str, **values: Any) -> None:
        """Write {"event": name, "time": seconds since 1970, …}; numbers that are not finite become null."""
        if self._file is None:
            return
        record = finite({"event": name, "time": round(time.time(), 3), **values})
        with disk_errors(Path(self._file.name), "written"):
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        if self._listener is not None:
            self._listener.write(record)

    def sync(self) -> int:
        """Bring all events to disk; how many bytes they are, for :func:`cut_log`."""
        if self._file is None:
            return 0
        with disk_errors(Path(self._file.name), "written"):
            os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._listener is not None:
            self._listener.close()


def read_events(run: Path) -> list[dict[str, Any]]:
    """The events of a run, first to last; without the last line where its writer was killed within it."""
    lines = (run / NAME).read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def torchrun_job() -> str | None:
    """What all starts and restarts of a torchrun job have in common, and no other job has; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name in (None, "none"):  # without --rdzv-id all jobs have one name; then it is the torchrun of this machine
        return name and f"{platform.node()}/{os.getppid()}"
    return name


def job_of(run: Path) -> str | None:
    """The torchrun job that began the run or went on with it last; None where none did."""
    try:
        return json.loads((run / ENVIRONMENT).read_text(encoding="utf-8"))["torchrun_job"]
    except (OSError, ValueError, KeyError):
        return None


def cut_log(run: Path, size: int, step: int) -> int:
    """Take out of the log what came after the checkpoint of ``step``, which was written when it had ``size`` bytes.

    The run goes on from there and will log those steps again. What is taken out goes to the end of ``log.lost.jsonl``;
    what says that the checkpoint was written, and that the run was stopped then, stays.

    Returns:
        The number of lines that were taken out.
    """
    path = run / NAME
    content = path.read_bytes() if path.exists() else b""
    lost = content[size:].splitlines(keepends=True)
    while lost and _is_of_saving(lost[0], step):
        size += len(lost.pop(0))
    if lost:
        with (run / LOST).open("ab") as file:
            file.write(b"".join(line.removesuffix(b"\n") + b"\n" for line in lost))
        write_atomically(path, lambda file: file.write(content[:size]))
    return len(lost)


def _is_of_saving(line: bytes, step: int) -> bool:
    if not line.endswith(b"\n"):
        return False
    event = json.loads(line)
    return event["event"] in _OF_SAVING and event["step"] == step


def finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_config(run: Path) -> Config:
    """The settings of a run folder; raises InputError where it is none."""
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"{run} is no run folder: there is no {path}.")
    try:
        return Config(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read as the settings of a run: {error}") from error


def start_run_folder(run: Path, config: Config) -> None:
    """Make the folder with ``config.json`` and ``environment.json``; raises InputError if it holds a run."""
    if (run / "config.json").exists():
        raise InputError(f"{run} holds a run already. Go on with --resume {run}, or choose another --out.")
    try:
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_environment(run)
        write_config(run, config)
    except OSError as error:
        raise InputError(f"The run folder {run} cannot be written: {error.strerror}. Choose another --out.") from error


def write_config(run: Path, config: Config) -> None:
    """``config.json``: the settings with which the run began or went on last."""
    settings = json.dumps(dataclasses.asdict(dataclasses.replace(config, resume=None)), indent=2) + "\n"
    write_atomically(run / "config.json", lambda file: file.write(settings.encode()))


def write_environment(run: Path) -> None:
    """``environment.json``: what one needs to know to repeat the run, of the machine that ran last."""
    versions = {"pumlc": pumlc.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    record = {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "torchrun_job": torchrun_job(),
        "platform": platform.platform(),
    }
    write_atomically(run / ENVIRONMENT, lambda file: file.write((json.dumps(record, indent=2) + "\n").encode()))
