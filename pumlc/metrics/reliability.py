"""Whether probabilities mean what they say: the expected calibration error and the table behind it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 15
"""Of equal width, as in Guo et al. 2017, arXiv 1706.04599."""


class Reliability(NamedTuple):
    """Of the known entries in each bin of probability, ``BINS`` or [C, BINS]; float64, NaN where there are none."""

    count: Tensor  # float64, but whole numbers
    probability: Tensor  # their mean
    positives: Tensor  # share of them that is positive

    @property
    def error(self) -> Tensor:
        """Expected calibration error [] or [C]: the mean over the entries of what their bin is off by."""
        off = (self.probability - self.positives).abs().nan_to_num()
        return (self.count * off).sum(-1) / self.count.sum(-1)


def reliability(probability: Tensor, labels: Tensor) -> Reliability:
    """The table of each class, [C, BINS], of probabilities [N, C] and labels [N, C] int8."""
    classes = labels.shape[1]
    bins = (probability.double() * BINS).long().clamp(max=BINS - 1)
    known = labels != 0
    cells = (bins + BINS * torch.arange(classes, device=labels.device))[known]

    def sums(values: Tensor) -> Tensor:
        return cells.bincount(values, minlength=BINS * classes).reshape(classes, BINS)

    count = sums(torch.ones_like(cells, dtype=torch.float64))
    return Reliability(count, sums(probability[known].double()) / count, sums((labels[known] == 1).double()) / count)


def pooled(table: Reliability) -> Reliability:
    """That of all classes as one, [BINS], from those of each, [C, BINS]."""
    count = table.count.sum(0)
    means = ((table.count * mean.nan_to_num()).sum(0) / count for mean in (table.probability, table.positives))
    return Reliability(count, *means)
