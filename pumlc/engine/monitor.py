"""What happens between two log lines, gathered on the device without waiting for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pumlc.engine.distributed import World
from pumlc.methods import Step


class Window(NamedTuple):
    """The steps since the last log line, over all processes."""

    loss: float  # mean over steps and processes
    images: int
    seconds: float
    wait: float  # share of the time that the loop spent waiting for batches
    bad_step: int | None  # first step whose loss was not finite on any process
    parts: dict[str, float]  # of the loss, means as that is


class Speed(NamedTuple):
    """Of several windows together."""

    images_per_second: float
    wait: float  # share of the time that the loop spent waiting for batches


def speed(windows: Sequence[Window]) -> Speed:
    """How fast the steps of these windows were; of none, 0."""
    seconds = max(sum(window.seconds for window in windows), 1e-9)
    waited = sum(window.wait * window.seconds for window in windows)
    return Speed(sum(window.images for window in windows) / seconds, waited / seconds)


_NEVER = 2**62


class Monitor:
    """Sums losses and keeps the first batch whose loss is not finite, on the device."""

    def __init__(self, world: World, batch_size: int) -> None:
        self._world = world
        self._batch_size = batch_size
        self._loss = torch.zeros((), device=world.device, dtype=torch.float64)
        self._parts: dict[str, Tensor] = {}
        self._bad_step = torch.full((), _NEVER, device=world.device, dtype=torch.int64)
        self._bad_batch: tuple[Tensor, Tensor] | None = None
        self._steps = 0
        self._waited = self._before = 0.0  # seconds
        self.go_on()

    def go_on(self) -> None:
        """Let the clock run from now on: what was between is no part of the window."""
        self._start = time.perf_counter()

    def waited(self, seconds: float) -> None:
        """Count time that the host spent waiting for a batch."""
        self._waited += seconds

    def add(self, number: int, step: Step, labels: Tensor) -> None:
        """Count optimiser step ``number``; the batch is kept where its loss is the first that is not finite."""
        loss = step.loss.detach()
        self._loss += loss
        for name, part in step.parts.items():
            if name not in self._parts:
                self._parts[name] = torch.zeros_like(self._loss)
            self._parts[name] += part
        self._steps += 1
        good_until_now = self._bad_step == _NEVER
        first_bad = good_until_now & ~torch.isfinite(loss)
        self._bad_step = torch.where(first_bad, number, self._bad_step)
        if self._bad_batch is None:
            self._bad_batch = (step.logits.clone(), labels.clone())
        else:
            for kept, now in zip(self._bad_batch, (step.logits, labels), strict=True):
                torch.where(good_until_now, now, kept, out=kept)

    def bad_step(self) -> int | None:
        """The first step of the window whose loss is not finite on some process, which all call it together."""
        bad_step = int(self._world.min(self._bad_step.clone()))
        return None if bad_step == _NEVER else bad_step

    def read(self) -> Window:
        """Close the window: the only place where the host waits for the device. All processes call it together."""
        summed = self._world.sum(torch.stack([self._loss, *self._parts.values()]))
        bad_step = self.bad_step()
        loss, *parts = (summed / max(self._steps * self._world.size, 1)).tolist()
        seconds = self._seconds()
        images = self._steps * self._batch_size * self._world.size
        wait = self._waited / max(seconds, 1e-9)
        window = Window(
            loss,
            images,
            seconds,
            wait,
            bad_step,
            dict(zip(self._parts, parts, strict=True)),
        )
        for total in (self._loss, *self._parts.values()):
            total.zero_()
        self._steps = 0
        self._waited = self._before = 0.0
        self.go_on()
        return window

    def _seconds(self) -> float:
        """How long the window is."""
        return self._before + time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        """The sums of the window that is open, those of each process by themselves; all call it together."""
        own = {"loss": self._loss.cpu(), "parts": {name: part.cpu() for name, part in self._parts.items()}}
        return {
            "sums": self._world.gather(own),
            "steps": self._steps,
            "seconds": self._seconds(),
            "waited": self._waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the window of :meth:`state_dict`, or begin a new one where another number of processes made it."""
        own = self._world.own(state["sums"])
        if own is None:
            return
        self._loss.copy_(own["loss"])
        self._parts = {name: part.to(self._loss.device) for name, part in own["parts"].items()}
        self._steps, self._before, self._waited = state["steps"], state["seconds"], state["waited"]

    def bad_batch(self) -> tuple[Tensor, Tensor] | None:
        """Logits and labels [B, C] of this process's first bad step, or None where all its losses were finite."""
        return self._bad_batch if int(self._bad_step) != _NEVER else None
