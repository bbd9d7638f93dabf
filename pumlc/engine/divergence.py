"""The end of a run whose loss, or whose scores, are not finite, explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pumlc.engine import DivergedError
from pumlc.engine.checkpoint import checkpoints
from pumlc.engine.distributed import World
from pumlc.engine.monitor import Monitor
from pumlc.methods import Method


def diverged(
    step: int, monitor: Monitor, method: Method, class_names: Sequence[str], world: World, run: Path
) -> DivergedError:
    """The error for a loss of ``step`` that is not finite on some process; all processes call this together."""
    bad = monitor.bad_batch()
    text = None if bad is None else method.explain(*bad, class_names)
    at_fault = bad is not None and not bool(torch.isfinite(bad[0]).all())
    # With shared statistics every process sees a bad loss: those whose own logits are bad come first.
    reports = [text for _, text in sorted(world.gather((not at_fault, text)), key=lambda it: it[0]) if text]
    saved = checkpoints(run / "checkpoints")
    return DivergedError(
        f"the loss of step {step} is not finite. What is off in its batch:\n{reports[0]}\n"
        f"The last checkpoint is {saved[-1] if saved else 'missing: none was due yet'}. "
        "Try a lower --lr, --clip-norm 1 or --precision fp32."
    )


def check_logits(logits: Tensor) -> None:
    """Raise DivergedError where one of the logits [N, C] is not finite."""
    bad = int((~torch.isfinite(logits)).any(1).sum())
    if bad:
        raise DivergedError(f"The scores of {bad} of {len(logits)} images are not finite. Lower --lr, or use fp32.")
