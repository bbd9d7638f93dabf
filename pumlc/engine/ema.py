"""A moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from pumlc.nn.backbone import BackboneNetwork


class MovingAverage:
    """Exponential moving average of what training changes: the trainable tensors and moving BatchNorm buffers.

    avg ← d·avg + (1-d)·value, d = decay. With ``warmup``, d = min(decay, (1+t)/(10+t)) after t updates, so that the
    random start is forgotten in a short run. A few kernels per update, however many tensors there are.
    """

    def __init__(self, model: BackboneNetwork, decay: float, *, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self._live = [p for p in model.parameters() if p.requires_grad]
        self._parameters = len(self._live)
        self._live += model.moving_buffers()
        self._average = [t.detach().clone() for t in self._live]

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model's tensors hold the average; pointers are exchanged, nothing is copied."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for i, live in enumerate(self._live):
            live.data, self._average[i] = self._average[i], live.data

    def buffers(self) -> list[Tensor]:
        """The averages of the BatchNorm buffers, which differ between processes."""
        return self._average[self._parameters :]

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        torch._foreach_copy_(self._average, state["average"])
