"""How far a mean average precision could be from the truth, by the images that it happened to be measured on."""

from __future__ import annotations

import torch
from torch import Tensor

from pumlc.metrics.average_precision import average_precision
from pumlc.metrics.ranked import rank

RESAMPLES = 1000
CONFIDENCE = 0.95
FEW_POSITIVES = 30
"""Positives of a class below which the interval is too optimistic.

The bias of average precision is then larger than resampling can show. With 80 classes of scores N(1.5, 1) against
N(0, 1), the interval covers the truth in 27 % of the samples with 10 positives a class, in 72 % with 20, in 83 % with
30 and in 87 % with 60; where positives and negatives lie further apart, already 10 will do.
"""
_NUMBERS = 1 << 21  # in a tensor, about ten at a time: 16 MB, as much as an allocator still takes from freed memory


def mean_ap_interval(
    scores: Tensor, labels: Tensor, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the mean average precision in percent; the mean average precision lies inside.

    Each resample draws N images with replacement; an image keeps its entries of all classes. Drawing one twice is
    giving it the weight 2, so the ranking is made once. A class is left out of a resample in which it has no
    positive. Average precision is that of :func:`~pumlc.metrics.average_precision.average_precision`.

    Average precision of few positives is too high on the whole, and a resample, in which images repeat, adds as much
    again. The percentiles of the resamples are therefore moved by twice the bias: their mean less the estimate.

    Time and memory: a resample reads one number for each known entry down to its class's last positive. With 40,000
    images and 80 classes, 1000 of them take seconds on one core and some 150 MB besides the arguments and their
    ranking, whatever their number.

    Args:
        scores: [N, C], none of them NaN.
        labels: [N, C] int8.

    Returns:
        The lower and the upper end; NaN where no class has a positive.
    """
    if not (labels == 1).any():
        return float("nan"), float("nan")
    groups = _Groups(scores, labels)
    at_a_time = max(1, min(resamples, _NUMBERS // max(len(scores), groups.count)))
    generator = torch.Generator(scores.device).manual_seed(seed)
    means = [
        groups.mean_ap(_weights(len(scores), min(at_a_time, resamples - first), generator))
        for first in range(0, resamples, at_a_time)
    ]
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64, device=scores.device)
    drawn = 100 * torch.cat(means)
    estimate = float((100 * average_precision(scores, labels)).nanmean())
    bias = drawn.nanmean() - estimate
    low, high = (drawn.nanquantile(tails) - 2 * bias).clamp(0, 100).tolist()
    return min(low, estimate), max(high, estimate)


def few_positives(labels: Tensor) -> int:
    """Classes of ``labels`` [N, C] that have positives, but fewer than ``FEW_POSITIVES``."""
    positives = (labels == 1).sum(0)
    return int(((positives > 0) & (positives < FEW_POSITIVES)).sum())


def _weights(images: int, resamples: int, generator: torch.Generator) -> Tensor:
    """[N, R] float32, how often each image is drawn in each of R resamples."""
    drawn = torch.randint(images, (images, resamples), generator=generator, device=generator.device)
    cells = drawn * resamples + torch.arange(resamples, device=generator.device)
    return cells.flatten().bincount(minlength=images * resamples).reshape(images, resamples).float()


class _Groups:
    """The known entries by class and rank, cut after each score that a positive has: where precision is taken.

    G such groups, those of a class one after another.
    """

    def __init__(self, scores: Tensor, labels: Tensor) -> None:
        ranked = rank(scores, labels)
        labels = labels.gather(0, ranked.order).T  # [C, N] from here on: classes one after another
        at_last = torch.where(ranked.last, ranked.true, 0).cummax(0).values.T
        before = at_last.roll(1, 1)
        before[:, 0] = 0
        ends = ranked.last.T & (at_last > before)
        of_class, _ = ends.nonzero(as_tuple=True)  # [G]
        self.count = len(of_class)
        _, self._class, sizes = of_class.unique_consecutive(return_inverse=True, return_counts=True)
        self._last = sizes.cumsum(0) - 1  # group of each class that has any
        number = ends.flatten().cumsum(0).reshape(ends.shape) - ends.long()  # of groups that ended before the entry
        within = ends.flip(1).cumsum(1).flip(1) > 0  # not below the last positive
        self._known = self._bags(ranked.order.T, number, (labels != 0) & within)
        self._positive = self._bags(ranked.order.T, number, labels == 1)

    def _bags(self, rows: Tensor, number: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The rows in ``mask``, group after group, and where each of the groups begins."""
        sizes = number[mask].bincount(minlength=self.count)
        return rows[mask], sizes.cumsum(0) - sizes

    def mean_ap(self, weights: Tensor) -> Tensor:
        """[R] float64 between 0 and 1, of weights [N, R]; NaN where no class has a positive."""
        positive, known = (
            torch.nn.functional.embedding_bag(rows, weights, starts, mode="sum").T.contiguous()  # [R, G]
            for rows, starts in (self._positive, self._known)
        )
        precision = self._up_to_each(positive) / self._up_to_each(known).clamp(min=1)
        return (self._per_class(positive * precision) / self._per_class(positive)).nanmean(1)

    def _up_to_each(self, values: Tensor) -> Tensor:
        """Of values [R, G], the sums within a class up to each group, float64."""
        total = values.cumsum(1, dtype=torch.float64)
        before = torch.nn.functional.pad(total[:, self._last[:-1]], (1, 0))  # of the classes before
        return total - before.index_select(1, self._class)

    def _per_class(self, values: Tensor) -> Tensor:
        """Of values [R, G], the sums over each class that has groups, float64."""
        total = values.cumsum(1, dtype=torch.float64)[:, self._last]
        return total.diff(dim=1, prepend=torch.zeros_like(total[:, :1]))
