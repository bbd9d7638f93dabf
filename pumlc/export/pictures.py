"""The pictures that an exported model is checked on."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pumlc.data.demo import write_demo
from pumlc.data.picture import UnusablePictureError, read_picture
from pumlc.engine.distributed import World
from pumlc.engine.log import read_config
from pumlc.engine.setup import load_data
from pumlc.errors import InputError
from pumlc.predict.names import find_pictures

COUNT = 32


class Chosen(NamedTuple):
    """Pictures that can be read."""

    paths: list[Path]
    source: str  # where they come from, for the person at the console
    warning: str | None


def choose_pictures(run: Path, given: Sequence[str], scratch: Path, count: int = COUNT) -> Chosen:
    """At most ``count`` of the given pictures; else of those that the run has held out; else some that are drawn.

    They are taken at equal distances. Those that cannot be read are passed over.

    Args:
        given: files, folders and patterns.
        scratch: folder that pictures are drawn into.

    Raises:
        InputError: none of the given pictures can be read.
    """
    if given:
        chosen = _readable([Path(name) for name in find_pictures(given, sys.stdin.buffer).files], count)
        if not chosen:
            raise InputError(f"None of the pictures given can be read: {', '.join(given)}.")
        return Chosen(chosen, "as given", None)
    held_out, source = _held_out(run)
    if chosen := _readable(held_out, count):
        return Chosen(chosen, source, None)
    with contextlib.redirect_stdout(io.StringIO()):  # where they lie matters to nobody
        drawn = sorted((write_demo(scratch / "drawn", train=1, test=count) / "val2014").glob("*.jpg"))
    warning = f"{source}: the check is on drawn pictures. Give real ones with --pictures FOLDER."
    return Chosen(drawn, "drawn for this check", warning)


def _held_out(run: Path) -> tuple[list[Path], str]:
    """The test split of a run, or else its val split, and where that is; none, and why, where there is no such."""
    if not run.is_dir():
        return [], f"{run} is no run folder, which would name its data"
    config = read_config(run)
    if not Path(config.data).exists():  # of the demo set too, which is not drawn for this
        return [], f"the data of the run, {config.data}, is not there"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            splits = load_data(config, World(torch.device("cpu"))).splits
    except InputError as error:
        return [], f"the data of the run cannot be read ({error})"
    split = splits.test or splits.val
    if split is None:
        return [], f"{config.data} has no held-out split"
    return [Path(path) for path in split.paths], f"of the {split.split} split of {config.data}"


def _readable(paths: Sequence[Path], count: int) -> list[Path]:
    places = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [path for path in (paths[place] for place in places) if _can_be_read(path)]


def _can_be_read(path: Path) -> bool:
    try:
        read_picture(path)
    except UnusablePictureError:
        return False
    return True
