"""What a checkpoint holds of a run, so that it goes on as if it had never stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pumlc.engine.distributed import random_states, restore_random_state
from pumlc.engine.resuming import place
from pumlc.errors import InputError

if TYPE_CHECKING:
    from pumlc.engine.trainer import Trainer

PROGRESS = ("step", "evaluated", "stopped_early", "best", "scores")
"""Attributes of the trainer that say where it is."""


def collect(trainer: Trainer) -> dict[str, Any]:
    """The state of a run between two steps, from all processes, which call it together.

    What differs between them is kept of each by itself: random numbers, BatchNorm statistics, the sums of the open log
    window. The weights are on the device of the run.
    """
    world, average = trainer.world, trainer.average
    return {
        **{name: getattr(trainer, name) for name in PROGRESS},
        "steps_per_epoch": trainer.steps_per_epoch,
        "global_batch": trainer.config.batch_size * world.size,
        "images": len(trainer.data.splits.train),
        "class_names": list(trainer.class_names),
        "maxima": trainer.evaluator.maxima and trainer.evaluator.maxima.values,
        "model": trainer.model.state_dict(),
        "average": average and average.state_dict(),
        "buffers": world.gather([buffer.cpu() for buffer in _buffers(trainer)]),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.precision.scaler.state_dict(),
        "method": trainer.method.state_dict(),
        "memorisation": trainer.memorisation.state_dict(),
        "monitor": trainer.monitor.state_dict(),
        "random": random_states(world),
    }


def restore(trainer: Trainer, state: dict[str, Any], path: object) -> tuple[str, ...]:
    """Put the run where :func:`collect` found it, exactly so with the same number of processes.

    Args:
        path: of the checkpoint, for errors.

    Returns:
        What a person should know about it, a line each.

    Raises:
        InputError: the checkpoint is of other data or of another model.
    """
    _check_data(trainer, state)
    world, average = trainer.world, trainer.average
    try:
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise InputError(f"The checkpoint {path} does not fit the model: {error}") from error
    if average is not None:
        average.load_state_dict(state["average"])
    own = world.own(state["buffers"])
    if own is None:
        own = [torch.stack(each).mean(0) for each in zip(*state["buffers"], strict=True)]
    for buffer, value in zip(_buffers(trainer), own, strict=True):
        buffer.copy_(value)
    trainer.precision.scaler.load_state_dict(state["scaler"])
    trainer.method.load_state_dict(state["method"])
    trainer.memorisation.load_state_dict(state["memorisation"])
    trainer.monitor.load_state_dict(state["monitor"])
    if trainer.evaluator.maxima is not None:
        trainer.evaluator.maxima.values = state["maxima"]
    for name in PROGRESS:
        setattr(trainer, name, state[name])
    restore_random_state(world, state["random"])
    global_batch = trainer.config.batch_size * world.size
    if state["global_batch"] == global_batch:
        return ()
    trainer.step = place(state, trainer.steps_per_epoch, global_batch)
    if state["step"] % state["steps_per_epoch"] and trainer.step % trainer.steps_per_epoch == 0:
        trainer.evaluated = True  # the first step of an epoch is seen again; of the epoch before, nothing is due
    twice = state["step"] % state["steps_per_epoch"] * state["global_batch"]
    twice -= trainer.step % trainer.steps_per_epoch * global_batch
    return (
        f"saved after step {state['step']} with {state['global_batch']} images per step, goes on after step "
        f"{trainer.step} with {global_batch}: {twice} images of the epoch are seen twice, none is left out, and the "
        "run is not bit for bit what it would have been",
    )


def _buffers(trainer: Trainer) -> list[torch.Tensor]:
    """The moving BatchNorm statistics, which each process has of its own images, and their averages."""
    return [*trainer.model.moving_buffers(), *(trainer.average.buffers() if trainer.average else ())]


def _check_data(trainer: Trainer, state: dict[str, Any]) -> None:
    run, names, images = trainer.run_folder, trainer.class_names, len(trainer.data.splits.train)
    if state["class_names"] != list(names):
        raise InputError(
            f"The run {run} has {len(state['class_names'])} classes ({', '.join(state['class_names'][:4])}, …), the "
            f"data {len(names)} ({', '.join(names[:4])}, …). Resume with the data that it began with."
        )
    if state["images"] != images:
        raise InputError(
            f"The run {run} has {state['images']} training images, the data {images}. Resume with the data that it "
            "began with."
        )
