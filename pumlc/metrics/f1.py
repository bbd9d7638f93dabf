"""CF1 and OF1: F1 of the classes and of all entries."""

from __future__ import annotations

import torch
from torch import Tensor

THRESHOLD = 0.5
"""The probability from which on a class is predicted, where no other was chosen."""


def f1(chosen: Tensor, labels: Tensor) -> tuple[float, float]:
    """CF1 and OF1 in percent of the entries ``chosen``, bool [N, C], by ``labels`` [N, C] int8.

    CF1 is the harmonic mean of the classes' mean precision and mean recall, OF1 that of precision and recall of all
    entries. Classes without a positive are left out, unknown entries skipped; NaN where no class has a positive.
    """
    shown = (labels == 1).any(0)
    chosen, labels = chosen[:, shown], labels[:, shown]
    true = (chosen & (labels == 1)).sum(0)
    predicted = (chosen & (labels != 0)).sum(0)
    cf1, of1 = _of_counts(true, predicted, (labels == 1).sum(0))
    return float(cf1), float(of1)


def f1_at(probability: Tensor, labels: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """CF1 and OF1 [T] in percent of what has a probability from each of T thresholds on, in one pass.

    Args:
        probability: [N, C].
        labels: [N, C] int8, as for :func:`f1`.
        thresholds: [T], rising, of the dtype of ``probability``.
    """
    shown = (labels == 1).any(0)
    probability, labels = probability[:, shown].contiguous(), labels[:, shown]
    passed = torch.bucketize(probability, thresholds, right=True)  # how many of the thresholds
    steps = len(thresholds) + 1
    cells = passed + steps * torch.arange(labels.shape[1], device=labels.device)

    def from_each_on(mask: Tensor) -> Tensor:
        counts = cells[mask].bincount(minlength=steps * labels.shape[1]).reshape(labels.shape[1], steps)
        return counts.flip(1).cumsum(1).flip(1)[:, 1:].T  # [T, C]

    positive = (labels == 1).sum(0)
    return _of_counts(from_each_on(labels == 1), from_each_on(labels != 0), positive)


def _of_counts(true: Tensor, predicted: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """CF1 and OF1 [...] in percent, from counts [..., C] of entries; ``positive`` [C] are above 0."""
    true = true.double()
    cf1 = _harmonic_mean((true / predicted.clamp(min=1)).mean(-1), (true / positive).mean(-1))
    true = true.sum(-1)
    of1 = _harmonic_mean(true / predicted.sum(-1).clamp(min=1), true / positive.sum())
    return 100 * cf1, 100 * of1


def _harmonic_mean(a: Tensor, b: Tensor) -> Tensor:
    total = a + b
    return torch.where(total == 0, 0.0, 2 * a * b / total)
