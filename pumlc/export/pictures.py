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
from pumlc.engine.evaluation_files import FOLDER, evaluated_splits, read_split
from pumlc.engine.log import read_config
from pumlc.engine.setup import load_data
from pumlc.errors import InputError
from pumlc.predict.names import find_pictures

COUNT = 32
HELD_OUT = ("test", "val")
"""Splits, the better one first."""


class Chosen(NamedTuple):
    """Pictures that can be read."""

    paths: list[Path]
    source: str  # where they come from, for the person at the console
    warning: str | None


def choose_pictures(
    run: Path, given: Sequence[str], scratch: Path, count: int = COUNT, *, allow_drawn: bool = False
) -> Chosen:
    """At most ``count`` of the given pictures; else of those that the run has held out, as its evaluation or its data
    has them; else some that are drawn, if that is allowed.

    They are taken at equal distances. Those that cannot be read are passed over.

    Args:
        run: run folder, or a weight file in one.
        given: files, folders and patterns.
        scratch: folder that pictures are drawn into.

    Raises:
        InputError: none of the given pictures can be read; or nothing is given, the run has none, and none may be
            drawn.
    """
    if given:
        chosen = _readable([Path(name) for name in find_pictures(given, sys.stdin.buffer).files], count)
        if not chosen:
            raise InputError(f"None of the pictures given can be read: {', '.join(given)}.")
        return Chosen(chosen, "as given", None)
    run = run if run.is_dir() else run.parent
    reasons = []
    for find in (_evaluated, _of_the_data):
        try:
            held_out, source = find(run)
        except InputError as error:
            reasons.append(str(error))
            continue
        if chosen := _readable(held_out, count):
            return Chosen(chosen, source, None)
        reasons.append(f"No picture {source} can be read.")
    why = "".join(f"\n  {reason}" for reason in reasons)
    if not allow_drawn:
        raise InputError(
            "There are no pictures to check on. Give some with --pictures FOLDER, or let drawn ones do with "
            f"--allow-drawn. What was tried:{why}"
        )
    with contextlib.redirect_stdout(io.StringIO()):  # where they lie matters to nobody
        drawn = sorted((write_demo(scratch / "drawn", train=1, test=count) / "val2014").glob("*.jpg"))
    return Chosen(drawn, "drawn for this check", f"the check is on drawn pictures, for want of real ones:{why}")


def _evaluated(run: Path) -> tuple[list[Path], str]:
    """What evaluation could read of the test split, or else of the val split, and where that is; raises InputError."""
    name = next((name for name in HELD_OUT if name in evaluated_splits(run)), None)
    if name is None:
        raise InputError(f"{run / FOLDER} has no held-out split.")
    split = read_split(run, name)
    paths = [Path(path) for path, usable in zip(split.paths, split.usable.tolist(), strict=True) if usable]
    return paths, f"of the {name} split that {run} was evaluated on"


def _of_the_data(run: Path) -> tuple[list[Path], str]:
    """The test split of a run, or else its val split, and where that is; raises InputError."""
    config = read_config(run)
    data = Path(config.data).absolute()
    if not data.exists():  # of the demo set too, which is not drawn for this
        raise InputError(f"The data of the run, {data}, is not there.")
    with contextlib.redirect_stdout(io.StringIO()):
        splits = load_data(config, World(torch.device("cpu"))).splits
    split = splits.test or splits.val
    if split is None:
        raise InputError(f"The data of the run, {data}, has no held-out split.")
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
