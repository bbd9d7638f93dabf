"""Average precision and F1 from scores and true labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pumlc.metrics.average_precision import average_precision
from pumlc.metrics.f1 import THRESHOLD, f1


@dataclass(frozen=True)
class Scores:
    """All in percent; NaN where there is nothing to average.

    ``mean_ap`` is the mean over the classes that have positives, ``left_out`` the number of those that have none
    (None in ``ap``). ``cf1`` is the harmonic mean of the mean precision and the mean recall of these same classes,
    ``of1`` that of precision and recall over all their entries, both of what has a probability of 0.5 or more.
    ``of_images`` are scores of what each image shows, by name, where a run asks for them.
    """

    mean_ap: float
    cf1: float
    of1: float
    left_out: int
    ap: list[float | None]
    of_images: Mapping[str, float] = field(default_factory=dict)


def score(logits: Tensor, labels: Tensor) -> Scores:
    """Compare ``logits`` [N, C], all finite, with the true ``labels`` [N, C] int8; what is unknown is skipped."""
    values = 100 * average_precision(logits, labels)
    cf1, of1 = f1(logits.double().sigmoid() >= THRESHOLD, labels)
    ap = [None if math.isnan(value) else value for value in values.tolist()]
    return Scores(float(values.nanmean()), cf1, of1, ap.count(None), ap)
