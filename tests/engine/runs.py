"""Runs small enough for a test, and what their logs say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pumlc.engine.config import Config
from pumlc.engine.log import read_events
from pumlc.engine.presets import PRESETS


def tiny_run(data: Path, out: Path) -> Config:
    """Five steps on the CPU, with the pictures of the fixture ``picture_table``."""
    return dataclasses.replace(
        PRESETS["csv"].config,
        data=str(data),
        out=str(out),
        backbone="test_resnet",
        image_size=64,
        epochs=1,
        batch_size=5,
        log_every=1,
        threads=1,
        device="cpu",
        precision="fp32",
    )


def events(config: Config, name: str) -> list[dict]:
    """The events of this name in the log of a run, first to last."""
    return [event for event in read_events(Path(config.out)) if event["event"] == name]
