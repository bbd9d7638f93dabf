"""When a run saves itself, and how its folder goes back to what was saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pumlc.engine.checkpoint import (
    Newest,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    read_checkpoint,
    save_checkpoint,
    set_aside,
)
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.kept_weights import KeptWeights
from pumlc.engine.log import LOST, RunLog, cut_log
from pumlc.engine.whole_files import disk_errors, remove_leftovers


class Saving:
    """The checkpoints of a run folder, and the weights and the log that go with them.

    Args:
        run: the folder of the run.
    """

    def __init__(self, run: Path, config: Config, world: World, kept_weights: KeptWeights) -> None:
        self._run, self._folder = run, run / "checkpoints"
        self._config, self._world = config, world
        self._kept_weights = kept_weights
        self._last = time.monotonic()

    def is_due_by_clock(self) -> bool:
        """Whether enough minutes have passed; only the first process says so, for all of them."""
        minutes = self._config.checkpoint_minutes
        return self._world.is_main and minutes > 0 and time.monotonic() - self._last >= 60 * minutes

    def is_due_by_steps(self, step: int) -> bool:
        return self._config.checkpoint_steps is not None and step % self._config.checkpoint_steps == 0

    def save(self, step: int, state: dict[str, Any], log: RunLog, log_size: int | None = None) -> None:
        """Write the checkpoint after ``step``; all processes call it together, the others wait for the first.

        Args:
            log_size: bytes of the log that belong to the checkpoint; by default all.
        """

        def write() -> Path:
            size = log.sync()
            own = state | {"log_size": size if log_size is None else log_size}
            path = save_checkpoint(self._folder, step, own, self._config.keep_checkpoints)
            self._kept_weights.prune()
            return path

        path = self._world.on_main(write)
        log.event("checkpoint", step=step, path=str(path))
        self._last = time.monotonic()

    def newest(self) -> tuple[Newest, dict[str, Any]]:
        """The newest whole checkpoint, the same on all processes, which call it together, and its state on the CPU.

        Raises:
            InputError: there is no whole checkpoint.
        """
        found = self._world.gather(self._world.on_main(lambda: find_checkpoint(self._folder)))[0]
        return found, read_checkpoint(found.path)

    def go_back(self, found: Newest, state: dict[str, Any]) -> tuple[str, ...]:
        """Take everything in the folder back to what :meth:`newest` gave; all processes call it together.

        Returns:
            What a person should know about it, a line each.
        """

        def clear() -> int:
            with disk_errors(self._run, "taken back to the checkpoint"):
                set_aside(list(found.damaged))
                for folder in (self._run, self._folder):
                    remove_leftovers(folder)
                self._kept_weights.go_back(state["step"])
                return cut_log(self._run, state["log_size"], state["step"])

        lines = self._world.gather(self._world.on_main(clear))[0]
        notes = [f"passed over {path}, which {wrong}: renamed to *.damaged" for path, wrong in found.damaged.items()]
        if lines:
            notes.append(f"{lines} lines of the log came after the checkpoint: moved to {self._run / LOST}")
        return tuple(notes)

    def renumber(self, step: int, save: Callable[[], object]) -> None:
        """Let the run go on under the number ``step``, which is another one with another number of processes.

        Args:
            save: writes the checkpoint of that number; all processes call it together.
        """
        self._world.on_main(lambda: self._kept_weights.renumber(step))
        save()
        self._world.on_main(lambda: self._drop_all_but(step))

    def _drop_all_but(self, step: int) -> None:
        """A higher number of before would be taken for the newest."""
        for path in checkpoints(self._folder):
            if path != checkpoint_path(self._folder, step):
                path.unlink()
        self._kept_weights.go_back(step)
