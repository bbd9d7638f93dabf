"""The command line of training: ``[preset] --flags``, ``--resume RUN --flags``, or one of the published code."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from pumlc.engine import published_command_line
from pumlc.engine.config import Config
from pumlc.engine.log import read_config
from pumlc.engine.presets import DEFAULT_PRESET, PRESETS, RECIPES, Preset
from pumlc.errors import InputError, require

# What a resumed run may change: where and how fast it runs, and how far, but nothing that its steps depend on.
FREE_ON_RESUME = frozenset(
    {"data", "max_bad_share", "device", "cuda_graph", "threads", "steps", "log_every", "out", "resume"}
)


def parse(arguments: Sequence[str]) -> Config:
    """The checked settings that ``arguments`` (without the program's name) ask for.

    ``--epochs`` alone means a schedule over that many epochs, all of which run, also where the preset stops
    early. With ``--resume`` the settings are those of the run, changed by the flags in FREE_ON_RESUME; there
    ``--epochs`` may also be moved within the schedule that the run began with. The flags of the published code of
    PU-MLC stand for a preset: other flags come on top.

    Raises:
        InputError: an unknown preset, a value out of range, or a change that a resumed run does not allow.
        SystemExit: for ``--help`` (status 0) and for flags that do not parse (status 2).
    """
    name, preset, arguments = _start(list(arguments))
    config = _flags(arguments, _with_recipe(arguments, preset), name)
    if config.resume is not None:
        config = _resumed(arguments, Path(config.resume))
    else:
        given = {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments}
        if "epochs" in given and "schedule_epochs" not in given:
            config = replace(config, schedule_epochs=None)
        if config.out is None:
            config = replace(config, out=str(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"))
    config.check()
    return config


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
    if not default.data and not any(argument.split("=")[0] == "--resume" for argument in arguments):
        default = replace(default, data=tyro.MISSING)
    return tyro.cli(Config, default=default, args=arguments, prog="train.py [preset]", description=description)


def _resumed(arguments: list[str], run: Path) -> Config:
    saved = read_config(run)
    config = replace(_flags(arguments, saved, "the run"), resume=str(run), out=str(run))
    for field in fields(Config):
        before, now = getattr(saved, field.name), getattr(config, field.name)
        if before == now or field.name in FREE_ON_RESUME:
            continue
        if field.name == "epochs" and now <= saved.total_epochs:
            config = replace(config, schedule_epochs=saved.total_epochs)
            continue
        raise InputError(
            f"--{field.name.replace('_', '-')} cannot change from {before} to {now} in a run that is resumed. "
            f"Start a new run, if you like from the weights of this one: --weights {run / 'best.safetensors'}."
        )
    return config
