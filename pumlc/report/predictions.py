"""What the kept weights say of the pictures of a split, as probabilities and as decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pumlc.engine.evaluation_files import evaluated_splits, read_split
from pumlc.metrics.f1 import THRESHOLD
from pumlc.nn.calibration import Calibration
from pumlc.report.record import Record


@dataclass(frozen=True)
class Predictions:
    """N usable pictures of a split and C classes."""

    split: str
    paths: Sequence[str]
    class_names: Sequence[str]
    labels: Tensor  # [N, C] int8, as annotated: 1 positive, 0 unknown, -1 known negative
    observed: Tensor  # [N, C] int8, what training sees of them
    probabilities: Tensor  # [N, C] float64, calibrated where there is a calibration
    thresholds: Tensor  # [C] float64, from which on a class is said to be there
    losses: Tensor  # [N] float32, mean cross-entropy of the known labels; NaN where there are none


def read_predictions(record: Record, split: str) -> Predictions | None:
    """None where the split was not evaluated with the weights of the summary; InputError where its file is damaged."""
    if record.summary is None or split not in record.summary["splits"] or split not in evaluated_splits(record.folder):
        return None
    evaluated, classes = read_split(record.folder, split), len(record.summary["class_names"])
    usable = evaluated.usable
    calibration, fitted = Calibration.identity(classes), record.summary["calibration"]
    if fitted is not None:
        calibration = Calibration(torch.tensor(fitted["temperature"]), torch.tensor(fitted["bias"]))
    logits = calibration(evaluated.logits[usable])
    labels = evaluated.labels[usable]
    known = labels != 0
    losses = binary_cross_entropy_with_logits(logits, (labels == 1).float(), reduction="none")
    return Predictions(
        split,
        [path for path, good in zip(evaluated.paths, usable.tolist(), strict=True) if good],
        evaluated.class_names,
        labels,
        evaluated.observed[usable],
        calibration.probability(evaluated.logits[usable]),
        torch.tensor(record.summary["thresholds"] or [THRESHOLD] * classes, dtype=torch.float64),
        torch.where(known, losses, 0).sum(1) / known.sum(1),
    )
