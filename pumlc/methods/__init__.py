"""How (model, batch, epoch) becomes a loss.

A method owns what it needs beyond the model and may edit the labels of a batch in place of the loader's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class LabelledImages(Protocol):
    """What a method sees of a batch."""

    images: Tensor  # [B, 3, H, W], channels_last
    labels: Tensor  # [B, C] int8: 1 positive, 0 unknown, -1 known negative
    index: Tensor  # [B] int64, rows of the label matrix


class Step(NamedTuple):
    loss: Tensor  # scalar, with gradient
    logits: Tensor  # [B, C], detached
    parts: Mapping[str, Tensor] = MappingProxyType({})
    """What the loss is made of where that is more than one thing: detached scalars, before they are weighted."""


class Method(ABC):
    """One way to train from incomplete or noisy labels.

    Subclasses give :meth:`__call__`, and the others where they keep something from one step to the next.
    """

    is_repeatable: bool = True
    """Each step does the same on the device, whatever the epoch, and nothing on the host: a CUDA graph can hold it."""

    @abstractmethod
    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        """The loss of one step; ``epoch`` counts from 0. Must not wait for the device."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser of what trains beside the model; ``lr_factor`` multiplies the learning rate."""
        return []

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Do what is due after the last step of an epoch; all processes call it together.

        Returns:
            Numbers for the log and the console, by name.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on, beside model and optimiser; the same on every process, which all call it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - by default nothing is kept
        """Go on from :meth:`state_dict`, which another number of processes may have made."""

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        """What about this batch made the loss non-finite, in a few lines for the person at the console."""
        return describe_bad_rows(logits)


def describe_bad_rows(logits: Tensor) -> str:
    """The line of every explanation that says how many images have logits [B, C] that are not finite."""
    bad_rows = (~torch.isfinite(logits)).any(1)
    return f"  logits of {int(bad_rows.sum())} of {len(logits)} images are not finite"
