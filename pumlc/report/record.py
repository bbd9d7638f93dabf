"""What a run folder says of its run: settings, log, scores."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pumlc.engine.config import Config
from pumlc.engine.evaluation_files import FOLDER, SPLITS, SUMMARY, read_summary
from pumlc.engine.log import read_config, read_events
from pumlc.errors import InputError


@dataclass(frozen=True)
class Record:
    """One run; ``summary`` is what pumlc.engine.evaluation_files has of it, None where it was never written."""

    folder: Path
    config: Config
    environment: dict[str, Any]
    events: list[dict[str, Any]]
    summary: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def start(self) -> dict[str, Any]:
        """The event with which the run began."""
        return next((event for event in self.events if event["event"] == "start"), {})

    @property
    def begun(self) -> dict[str, Any]:
        """The event with which it began or went on last; empty where it has not begun."""
        return next((event for event in reversed(self.events) if event["event"] in ("start", "resume")), {})

    @property
    def done(self) -> int:
        """Steps until now."""
        return next((event["step"] for event in reversed(self.events) if "step" in event), 0)

    @property
    def end(self) -> dict[str, Any] | None:
        """The event with which it finished; None where it did not, or went on afterwards."""
        last = next((event for event in reversed(self.events) if event["event"] in ("start", "resume", "end")), None)
        return last if last is not None and last["event"] == "end" else None

    def of(self, name: str) -> Iterator[dict[str, Any]]:
        """The events of this name, first to last."""
        return (event for event in self.events if event["event"] == name)

    @property
    def split(self) -> str | None:
        """The split whose scores stand for the run: test, else val, else what there is."""
        if self.summary is not None:
            return max(self.summary["splits"], key=SPLITS.index, default=None)
        return self.end["split"] if self.end else None

    @property
    def scores(self) -> dict[str, Any] | None:
        """The scores of the kept weights on ``split``; None where there is no evaluation."""
        if self.summary is None or self.split is None:
            return None
        return self.summary["splits"][self.split]["scores"].get("kept")

    @functools.cached_property
    def positions(self) -> list[tuple[float, dict[str, Any]]]:
        """The events of steps with their place in epochs, in that order.

        Where the run went on from an earlier step, or with another number of steps per epoch, the events that it left
        behind are not among them.
        """
        placed: list[tuple[float, dict[str, Any]]] = []
        per_epoch = 1
        for event in self.events:
            if event["event"] in ("start", "resume"):
                per_epoch = max(event["steps_per_epoch"], 1)
                begin = event["step"] / per_epoch
                placed = [(place, before) for place, before in placed if place <= begin]
            elif "step" in event:
                placed.append((event["step"] / per_epoch, event))
        return placed


def read_run(folder: Path) -> Record:
    """Read a run folder; raises InputError where it is none or a file of it is damaged."""
    config = read_config(folder)
    try:
        events = read_events(folder)
    except FileNotFoundError as error:
        raise InputError(f"{folder} has no log.jsonl: the run has not begun yet.") from error
    except ValueError as error:
        raise InputError(f"The log of {folder} is damaged: {error}.") from error
    summary = read_summary(folder) if (folder / FOLDER / SUMMARY).is_file() else None
    return Record(folder, config, _environment(folder), events, summary)


def _environment(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it explains the run, and no number depends on it
