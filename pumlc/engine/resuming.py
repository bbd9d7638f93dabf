"""Going on with a run: which settings hold, and what an interrupted one has left behind."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pumlc.engine.checkpoint import checkpoints
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.log import cut_log, job_of, read_config, torchrun_job
from pumlc.engine.whole_files import disk_errors, remove_leftovers
from pumlc.errors import InputError

AUTO = "auto"

# What a resumed run may change: where and how fast it runs, and how far, but nothing that its steps depend on.
FREE_ON_RESUME = frozenset(
    {
        "data",
        "max_bad_share",
        "device",
        "cuda_graph",
        "threads",
        "steps",
        "log_every",
        "out",
        "resume",
        "checkpoint_minutes",
        "checkpoint_steps",
        "keep_checkpoints",
        "timeout_minutes",
    }
)


def going_on(saved: Config, config: Config, run: Path) -> Config:
    """The settings with which the run ``run``, which has those ``saved``, goes on.

    Raises:
        InputError: ``config`` changes what its steps depend on.
    """
    config = replace(config, resume=str(run), out=str(run))
    for field in fields(Config):
        before, now = getattr(saved, field.name), getattr(config, field.name)
        if before == now or field.name in FREE_ON_RESUME:
            continue
        if field.name == "epochs" and now <= saved.total_epochs:
            config = replace(config, schedule_epochs=saved.total_epochs)
            continue
        if field.name == "schedule_epochs" and config.total_epochs == saved.total_epochs:
            continue  # said in other words
        raise InputError(
            f"--{field.name.replace('_', '-')} cannot change from {before} to {now} in a run that is resumed. "
            f"Start a new run, if you like from the weights of this one: --weights {run / 'best.safetensors'}."
        )
    return config


def decide(config: Config, world: World) -> Config:
    """The settings with --resume auto made either the run folder, where it holds a checkpoint, or None.

    Processes that torchrun has started again go on with their own run as if they had been told to. All processes call
    it together. What a run has left that was killed before its first checkpoint is cleared away.

    Raises:
        InputError: the folder holds a run with other settings, or cannot be cleared.
    """
    restarted = config.resume is None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    if any(world.gather(restarted)):  # torchrun may tell one machine alone
        is_own = world.gather(world.on_main(lambda: job_of(Path(config.out)) == torchrun_job()))[0]
        config = replace(config, resume=AUTO if is_own else None)
    if config.resume != AUTO:
        return config
    return world.gather(world.on_main(lambda: _decide(config)))[0]


def _decide(config: Config) -> Config:
    run = Path(config.out)
    with disk_errors(run, "cleared for a new run"):
        return _go_on_or_clear(config, run)


def _go_on_or_clear(config: Config, run: Path) -> Config:
    has_checkpoint = bool(checkpoints(run / "checkpoints"))
    if has_checkpoint or (run / "config.json").exists():
        chosen = going_on(read_config(run), config, run)
        if has_checkpoint:
            return chosen
        cut_log(run, 0, 0)
    for folder in (run, run / "checkpoints"):
        remove_leftovers(folder)
    for path in (run / "best.safetensors", *run.glob("checkpoints/best-*"), run / "config.json"):
        path.unlink(missing_ok=True)
    return replace(config, resume=None)


def place(state: dict[str, Any], steps_per_epoch: int, global_batch: int) -> int:
    """The step from which the checkpoint ``state`` goes on with ``steps_per_epoch`` of ``global_batch`` images each.

    With the steps that it was written with, its own. With others, as another number of processes makes them, the
    nearest before: no image of the epoch is left out, and fewer than two steps of them are seen twice.
    """
    epoch, steps = divmod(state["step"], state["steps_per_epoch"])
    if state["global_batch"] == global_batch:
        return state["step"]
    done = steps * state["global_batch"] // global_batch
    return epoch * steps_per_epoch + min(done, steps_per_epoch - 1)
