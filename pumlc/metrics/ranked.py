"""The entries of each class in the order of their scores: what average precision and thresholds are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ranked(NamedTuple):
    """All [N, C], with N above 0; within a class, from the highest score to the lowest."""

    scores: Tensor
    order: Tensor  # int64, the row that an entry comes from; equal scores in the order of their rows
    true: Tensor  # int64, positives among the first entries, up to this one
    known: Tensor  # int64, positives and known negatives among them
    last: Tensor  # bool, whether it is the last entry with its score

    @property
    def positives(self) -> Tensor:
        """[C] int64, of the whole class."""
        return self.true[-1]


def rank(scores: Tensor, labels: Tensor) -> Ranked:
    """Sort each class of ``scores`` [N, C], none of them NaN, with its ``labels`` [N, C] int8."""
    ranked, order = scores.sort(dim=0, descending=True, stable=True)
    labels = labels.gather(0, order)
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = ranked[:-1] != ranked[1:]
    return Ranked(ranked, order, (labels == 1).cumsum(0), (labels != 0).cumsum(0), last)
