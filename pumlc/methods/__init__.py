"""How (model, batch, epoch) becomes a loss.

A method owns what it needs beyond the model and may edit the labels of a batch in place of the loader's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

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


class Method(Protocol):
    """One way to train from incomplete or noisy labels."""

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        """The loss of one step; ``epoch`` counts from 0. Must not wait for the device."""

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        """What about this batch made the loss non-finite, in a few lines for the person at the console."""


def describe_bad_rows(logits: Tensor) -> str:
    """The line of every explanation that says how many images have logits [B, C] that are not finite."""
    bad_rows = (~torch.isfinite(logits)).any(1)
    return f"  logits of {int(bad_rows.sum())} of {len(logits)} images are not finite"
