"""Average precision and F1 from scores and true labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pumlc.engine import DivergedError
from pumlc.errors import require

THRESHOLD = 0.5


@dataclass(frozen=True)
class Scores:
    """All in percent; NaN where there is nothing to average.

    ``mean_ap`` is the mean over the classes that have positives, ``left_out`` the number of those that have none
    (None in ``ap``). ``cf1`` is the harmonic mean of the mean precision and the mean recall of these same classes,
    ``of1`` that of precision and recall over all their entries, both at probability 0.5. ``of_images`` are scores of
    what each image shows, by name, where a run asks for them.
    """

    mean_ap: float
    cf1: float
    of1: float
    left_out: int
    ap: list[float | None]
    of_images: Mapping[str, float] = field(default_factory=dict)


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Compare ``logits`` [N, C] with the true ``labels`` [N, C] int8; entries that are 0 (unknown) are skipped.

    Raises:
        DivergedError: a logit is not finite.
    """
    classification = require("torchmetrics.functional.classification", "torchmetrics")
    bad = int((~torch.isfinite(logits)).any(1).sum())
    if bad:
        raise DivergedError(f"The scores of {bad} of {len(logits)} images are not finite. Lower --lr, or use fp32.")
    probability = logits.double().sigmoid()  # float64: large logits must not tie in the ranking
    average_precision: list[float | None] = []
    for p, y in zip(probability.T, labels.T, strict=True):
        known = y != 0
        value = None
        if (y == 1).any():
            target = (y[known] == 1).long()
            value = 100 * float(classification.binary_average_precision(p[known], target, validate_args=False))
        average_precision.append(value)

    ranked = torch.tensor([value is not None for value in average_precision])
    values = [value for value in average_precision if value is not None]
    cf1, of1 = f1(probability[:, ranked] > THRESHOLD, labels[:, ranked])
    mean = sum(values) / len(values) if values else float("nan")
    return Scores(mean, cf1, of1, len(average_precision) - len(values), average_precision)


def f1(chosen: Tensor, labels: Tensor) -> tuple[float, float]:
    """CF1 and OF1 in percent of the entries ``chosen``, bool [N, C], by ``labels`` as in :func:`score`.

    Every class must have a positive.
    """
    true = (chosen & (labels == 1)).sum(0).double()
    predicted = (chosen & (labels != 0)).sum(0).double()
    positive = (labels == 1).sum(0).double()
    cf1 = _harmonic_mean((true / predicted.clamp(min=1)).mean(), (true / positive).mean())
    of1 = _harmonic_mean(true.sum() / predicted.sum().clamp(min=1), true.sum() / positive.sum())
    return 100 * cf1, 100 * of1


def _harmonic_mean(a: Tensor, b: Tensor) -> float:
    total = float(a + b)
    return 0.0 if total == 0 else float(2 * a * b) / total
