"""The log of a run as event files for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pumlc.engine.log import NAME, read_events
from pumlc.engine.whole_files import disk_errors
from pumlc.errors import require

FOLDER = "tensorboard"
_NOT_VALUES = ("event", "time", "step", "split", "weights")
_EVENTS = ("train", "eval", "method", "memorisation")


def need_tensorboard() -> None:
    """Raise MissingPackageError where the package is not installed, before a run has begun."""
    require("tensorboard")


class EventFiles:
    """Writes ``tensorboard/`` of a run folder: every number of an event about steps, under its step and time.

    The log is what holds: where a run goes on, all that TensorBoard has seen of it before is hidden (``purge_step``)
    and what is left in the log takes its place. So steps that were lost with a crash are not seen twice, and the files
    are complete also where they were asked for in the middle of a run.

    Numbers of single classes are left out: TensorBoard draws a chart for each.

    Args:
        run: the folder, whose log goes back no further than the checkpoint that the run goes on from.

    Raises:
        InputError: the files cannot be written.
    """

    def __init__(self, run: Path) -> None:
        need_tensorboard()
        writer = require("torch.utils.tensorboard").SummaryWriter
        self._folder = run / FOLDER
        with disk_errors(self._folder, "written"):
            self._writer = writer(self._folder, purge_step=0)
        for event in read_events(run) if (run / NAME).exists() else ():
            self.write(event)

    def write(self, event: dict[str, Any]) -> None:
        """Add an event as the log has it; those that are not about the numbers of a step are left out."""
        if event["event"] not in _EVENTS:
            return
        group = event["event"] if event["event"] != "eval" else _of_evaluation(event)
        with disk_errors(self._folder, "written"):
            for name, value in event.items():
                if name not in _NOT_VALUES and isinstance(value, int | float):
                    self._writer.add_scalar(f"{group}/{name}", value, event["step"], event["time"])
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _of_evaluation(event: dict[str, Any]) -> str:
    """The split, and apart from it the weights that were chosen and read back at the end."""
    return event["split"] if event["weights"] == "last" else f"{event['split']} {event['weights']}"
