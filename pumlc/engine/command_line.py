"""The command line of training: ``[preset] --flags``, ``--resume RUN --flags``, or one of the published code."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pumlc.engine import published_command_line
from pumlc.engine.config import Config
from pumlc.engine.log import read_config
from pumlc.engine.presets import DEFAULT_PRESET, PRESETS, RECIPES, Preset
from pumlc.engine.resuming import AUTO, going_on
from pumlc.errors import InputError, require


def parse(arguments: Sequence[str]) -> Config:
    """The checked settings that ``arguments`` (without the program's name) ask for.

    ``--epochs`` alone means a schedule over that many epochs, all of which run, also where the preset stops
    early. With ``--resume`` the settings are those of the run, changed by the flags in
    resuming.FREE_ON_RESUME; there ``--epochs`` may also be moved within the schedule that the run began with. With
    ``--resume auto`` they are those of the command line, and whether there is a run to go on with is seen when the run
    starts. The flags of the published code of PU-MLC stand for a preset: other flags come on top.

    Raises:
        InputError: an unknown preset, a value out of range, or a change that a resumed run does not allow.
        SystemExit: for ``--help`` (status 0) and for flags that do not parse (status 2).
    """
    name, preset, arguments = _start(list(arguments))
    config = _flags(arguments, _with_recipe(arguments, preset), name)
    if config.resume not in (None, AUTO):
        run = Path(config.resume)
        saved = read_config(run)
        config = going_on(saved, _flags(arguments, saved, "the run"), run)
    else:
        _needs_out(config)
        given = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments}
        if "epochs" in given and "schedule_epochs" not in given:
            config = replace(config, schedule_epochs=None)
        if config.out is None:
            config = replace(config, out=str(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"))
    config.check()
    return config


def _needs_out(config: Config) -> None:
    """Raise InputError where a run is to be found again and has no name to be found by."""
    if config.out is not None:
        return
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if config.resume == AUTO or restarts > 0:
        why = "--resume auto" if config.resume == AUTO else f"torchrun's --max-restarts {restarts}"
        raise InputError(f"{why} needs a run folder whose name does not change: add --out runs/NAME.")


def notes(arguments: Sequence[str]) -> tuple[str, ...]:
    """Sentences on how ``arguments``, which :func:`parse` took, were read: for the log of the run."""
    return published_command_line.notes(arguments) if published_command_line.is_published(arguments) else ()


def _start(arguments: list[str]) -> tuple[str, Preset, list[str]]:
    """What the run begins with: the name of a preset, its settings, and the words that come on top."""
    if published_command_line.is_published(arguments):
        return published_command_line.translate(arguments)
    name = arguments.pop(0) if arguments and not arguments[0].startswith("-") else DEFAULT_PRESET
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"Unknown preset {name!r}.{hint} There are: {', '.join(PRESETS)}.")
    return name, PRESETS[name], arguments


def _with_recipe(arguments: list[str], preset: Preset) -> Config:
    """The defaults after ``--recipe`` and ``--head``, where they are there: all other flags come on top."""
    config = preset.config
    recipe = _last_value(arguments, "--recipe")
    if recipe in RECIPES:  # else it is for the parser to refuse
        config = replace(config, recipe=recipe, **RECIPES[recipe])
    if preset.full_lr is not None and (_last_value(arguments, "--head") or config.head) == "full":
        config = replace(config, lr=preset.full_lr)
    return config


def _last_value(arguments: list[str], flag: str) -> str | None:
    """The value of a flag, given as ``--flag value`` or ``--flag=value``; None where it is not there."""
    last = None
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == flag:
            last = value if equals else next(iter(arguments[i + 1 :]), None)
    return last


def _flags(arguments: list[str], default: Config, preset: str) -> Config:
    tyro = require("tyro")
    by_summary: dict[str, list[str]] = {}
    for name, each in PRESETS.items():
        by_summary.setdefault(each.summary, []).append(name)
    presets = "\n\n".join(f"{', '.join(names)}: {summary}." for summary, names in by_summary.items())
    description = (
        "Train a multi-label image classifier from incomplete labels.\n\n"
        f"The first word chooses the preset (default: {DEFAULT_PRESET}):\n\n{presets}\n\n"
        f"The defaults below are those of {preset}."
    )
    if not default.data and _last_value(arguments, "--resume") in (None, AUTO):
        default = replace(default, data=tyro.MISSING)
    return tyro.cli(Config, default=default, args=arguments, prog="train.py [preset]", description=description)
