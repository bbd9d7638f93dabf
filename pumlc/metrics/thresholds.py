"""Thresholds that are chosen on held-out images."""

from __future__ import annotations

import torch
from torch import Tensor

from pumlc.metrics.f1 import THRESHOLD
from pumlc.metrics.ranked import rank

FEWEST_POSITIVES = 10
"""Held-out positives below which a class takes the threshold of all.

The best of its own would be the score of one or two pictures, and how it does on these says little about others.
"""


def choose_thresholds(logits: Tensor, labels: Tensor) -> Tensor:
    """The probability of each class from which on it is predicted, such that its F1 is highest on these images.

    Every cut between two scores is looked at, and the threshold is halfway between them, so that rounding moves no
    image over it. Classes with fewer than ``FEWEST_POSITIVES``, or without a known negative, share the one
    threshold whose OF1 over all classes is highest.

    Args:
        logits: [N, C], calibrated, so that those of different classes can be compared.
        labels: [N, C] int8; unknown entries are skipped.

    Returns:
        [C] float64; ``THRESHOLD`` where nothing has a positive.
    """
    positives = (labels == 1).sum(0)
    shown = positives > 0
    if not shown.any():
        return torch.full_like(positives, THRESHOLD, dtype=torch.float64)
    shared = _best_cut(logits[:, shown].reshape(-1, 1), labels[:, shown].reshape(-1, 1)).sigmoid()
    shares = (positives < FEWEST_POSITIVES) | ~(labels == -1).any(0)
    return torch.where(shares, shared, _best_cut(logits, labels).sigmoid())


def _best_cut(logits: Tensor, labels: Tensor) -> Tensor:
    """[C] float64, the cut with the highest F1 = 2 TP / (predicted + positive), of several the highest one."""
    ranked = rank(logits, labels)
    f1 = 2 * ranked.true.double() / (ranked.known + ranked.positives).clamp(min=1)
    best = torch.where(ranked.last, f1, -1.0).argmax(0, keepdim=True)
    lowest = ranked.scores.gather(0, best).double()
    below = ranked.scores.gather(0, (best + 1).clamp(max=len(logits) - 1)).double()
    below = torch.where(best + 1 < len(logits), below, lowest - 1)  # all are predicted: anything lower would do
    return ((lowest + below) / 2)[0]
