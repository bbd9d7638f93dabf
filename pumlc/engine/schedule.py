"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch


class Schedule(Protocol):
    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set up ``optimizer`` for step number ``step``, from 0, and return the learning rate.

        A group of parameters with an ``lr_factor`` gets that many times the rate.
        """


@dataclass(frozen=True)
class Constant:
    """The same learning rate in every step."""

    lr: float

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """As :meth:`Schedule.apply`."""
        _set_rate(optimizer, self.lr)
        return self.lr


@dataclass(frozen=True)
class StepDecay:
    """A tenth of the learning rate after 30, 60 and 80 of 110 equal parts of the steps, each time.

    These are the epochs in the published code of MILe (arXiv 2111.12172) for training on the given labels alone. Its
    runs of MILe lower the rate when the loss on the images of the evaluation has stopped to fall, which no function of
    the step can do, and which would be a choice on what is reported.
    """

    lr: float
    total_steps: int

    MILESTONES = (30, 60, 80)
    PARTS = 110
    FACTOR = 0.1

    def __call__(self, step: int) -> float:
        """Learning rate of the optimiser step number ``step``, counted from 0."""
        passed = sum(self.PARTS * step >= milestone * self.total_steps for milestone in self.MILESTONES)
        return self.lr * self.FACTOR**passed

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """As :meth:`Schedule.apply`."""
        lr = self(step)
        _set_rate(optimizer, lr)
        return lr


@dataclass(frozen=True)
class OneCycle:
    """The one-cycle policy (Smith & Topin 2019) as ``torch.optim.lr_scheduler.OneCycleLR`` has it by default.

    The learning rate rises on a cosine from lr/25 to lr over ``pct_start`` of the steps and falls on a cosine
    to lr/250,000 at the last one; Adam's first beta falls from 0.95 to 0.85 and rises again (the momentum of SGD
    stays). A function of the step alone: nothing to save, and any number of steps works (the one in torch divides by
    zero where ``pct_start * total_steps`` is 1).
    """

    lr: float
    total_steps: int
    pct_start: float = 0.2

    START_DIVISOR = 25.0
    END_DIVISOR = 1e4
    HIGH_BETA = 0.95
    LOW_BETA = 0.85

    def __call__(self, step: int) -> tuple[float, float]:
        """Learning rate and beta1 of the optimiser step number ``step``, counted from 0."""
        peak = self.pct_start * self.total_steps - 1
        start = self.lr / self.START_DIVISOR
        if step < peak:
            share = step / peak
            return _cosine(start, self.lr, share), _cosine(self.HIGH_BETA, self.LOW_BETA, share)
        peak = max(peak, 0.0)
        fall = self.total_steps - 1 - peak
        share = min((step - peak) / fall, 1.0) if fall > 0 else 0.0
        return _cosine(self.lr, start / self.END_DIVISOR, share), _cosine(self.LOW_BETA, self.HIGH_BETA, share)

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """As :meth:`Schedule.apply`."""
        lr, beta1 = self(step)
        _set_rate(optimizer, lr)
        for group in optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (beta1, group["betas"][1])
        return lr


def _set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
