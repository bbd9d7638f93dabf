"""Average precision per class, by two conventions."""

from __future__ import annotations

import torch
from torch import Tensor

from pumlc.metrics.ranked import rank


def average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over a class's positives of the precision at their scores, equal scores counting together.

    That is sum_k (R_k - R_k-1) P_k over the distinct scores, with the precision P_k and the recall R_k of everything
    from the k-th on, as scikit-learn defines it.

    Args:
        scores: [N, C], none of them NaN.
        labels: [N, C] int8; unknown entries are skipped.

    Returns:
        [C] float64 between 0 and 1, NaN where a class has no positive.
    """
    ranked = rank(scores, labels)
    at_last = torch.where(ranked.last, ranked.true, 0)
    gained = ranked.true.clone()  # positives of this score alone, at the last entry that has it
    gained[1:] -= at_last.cummax(0).values[:-1]
    precision = ranked.true.double() / ranked.known.clamp(min=1)
    return torch.where(ranked.last, gained * precision, 0.0).sum(0) / ranked.positives


def published_average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision as the code of PU-MLC and those before it (ASL, ML-GCN) have it.

    It differs from :func:`average_precision` in that equal scores count one after the other, here in the order of
    their rows; that what is unknown counts as negative; and that a class without a positive has 0, so that it lowers
    the mean. The code of Large Loss Matters has the last of these alone. None of them interpolates, also not on
    PASCAL VOC.

    Args:
        scores: [N, C], none of them NaN.
        labels: [N, C] int8.

    Returns:
        [C] float64 between 0 and 1.
    """
    ranked = rank(scores, torch.where(labels == 1, labels, -1))
    is_positive = ranked.true.diff(dim=0, prepend=torch.zeros_like(ranked.true[:1]))
    precision = ranked.true.double() / ranked.known
    return (is_positive * precision).sum(0) / ranked.positives.clamp(min=1)
