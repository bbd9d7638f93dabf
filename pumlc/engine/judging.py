"""What weights are worth on a split, in every respect, as ``evaluation.json`` has it (see evaluation_files)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pumlc.engine.evaluation_files import EvaluatedSplit
from pumlc.metrics.average_precision import published_average_precision
from pumlc.metrics.bootstrap import few_positives, mean_ap_interval
from pumlc.metrics.calibration import fit_calibration
from pumlc.metrics.f1 import f1
from pumlc.metrics.reliability import BINS, Reliability, pooled, reliability
from pumlc.metrics.scores import score
from pumlc.metrics.thresholds import choose_thresholds
from pumlc.nn.calibration import Calibration

KEPT, LAST = "kept", "last"


class Fitted(NamedTuple):
    """What was fitted to one kind of weights on held-out images."""

    calibration: Calibration
    thresholds: Tensor  # [C] float64, calibrated probabilities
    split: str  # that they come from

    def header(self) -> dict[str, Any]:
        """As it is kept with the weights."""
        calibration = {name: getattr(self.calibration, name).tolist() for name in ("temperature", "bias")}
        return {"fitted_on": self.split, "calibration": calibration, "thresholds": self.thresholds.tolist()}


def fit_to(evaluated: EvaluatedSplit) -> Fitted:
    """Calibration and thresholds from the images of a split that can be used."""
    logits, labels = evaluated.logits[evaluated.usable], evaluated.labels[evaluated.usable]
    calibration = Calibration(*fit_calibration(logits, labels))
    return Fitted(calibration, choose_thresholds(calibration(logits), labels), evaluated.split)


def judge(evaluated: EvaluatedSplit, fitted: Fitted | None) -> dict[str, Any]:
    """The scores of a kind of weights.

    Args:
        fitted: None where nothing was fitted to these weights.
    """
    logits, labels = evaluated.logits[evaluated.usable], evaluated.labels[evaluated.usable]
    scores = score(logits, labels)
    published = 100 * published_average_precision(logits, labels)
    before, after = reliability(logits.double().sigmoid(), labels), None
    chosen = None, None
    if fitted is not None:
        probability = fitted.calibration.probability(logits)
        after = reliability(probability, labels)
        chosen = f1(probability >= fitted.thresholds, labels)
    positives, negatives = ((labels == sign).sum(0).tolist() for sign in (1, -1))
    return {
        "weights": evaluated.weights,
        "epoch": evaluated.epoch,
        "mAP": scores.mean_ap,
        "mAP_interval": mean_ap_interval(logits, labels),
        "mAP_published": float(published.mean()),
        "classes_without_positives": scores.left_out,
        "classes_with_few_positives": few_positives(labels),
        "CF1": scores.cf1,
        "OF1": scores.of1,
        "CF1_thresholds": chosen[0],
        "OF1_thresholds": chosen[1],
        "classes": [
            {
                "name": name,
                "positives": positives[c],
                "known_negatives": negatives[c],
                "AP": scores.ap[c],
                "AP_published": float(published[c]),
                "ECE": 100 * float(before.error[c]),
                "ECE_calibrated": None if after is None else 100 * float(after.error[c]),
            }
            for c, name in enumerate(evaluated.class_names)
        ],
        "reliability": {"before": _table(before), "after": None if after is None else _table(after)},
    }


def _table(by_class: Reliability) -> dict[str, Any]:
    together = pooled(by_class)
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64).tolist()
    return {
        "ECE": 100 * float(together.error),
        "ECE_classes": 100 * float(by_class.error.nanmean()),
        "bins": [
            {
                "low": edges[i],
                "high": edges[i + 1],
                "count": int(together.count[i]),
                "probability": float(together.probability[i]),
                "positives": float(together.positives[i]),
            }
            for i in range(BINS)
        ],
    }


def judge_run(
    kept: Iterable[EvaluatedSplit],
    fitted: Fitted | None,
    selected_on: str | None,
    last: Mapping[str, EvaluatedSplit] = MappingProxyType({}),
) -> dict[str, Any]:
    """All of ``evaluation.json``.

    Args:
        kept: some splits as the kept weights see them, at least one.
        fitted: to the kept weights, where something was.
        selected_on: the split on which the kept weights were chosen, if any.
        last: by name, those of the splits that the last weights have seen too.
    """
    entries, fitted_on = {}, fitted and fitted.split
    for each in kept:
        flattered_by = {"training": "train", "weights": selected_on, "calibration": fitted_on, "thresholds": fitted_on}
        scores = {KEPT: judge(each, fitted)}
        if each.split in last:
            scores[LAST] = judge(last[each.split], None)
        usable = int(each.usable.sum())
        entries[each.split] = {
            "images": usable,
            "unusable": len(each.usable) - usable,
            "flattered_by": [what for what, split in flattered_by.items() if split == each.split],
            "scores": scores,
        }
    return {
        "class_names": list(each.class_names),
        "weights": each.weights,
        "epoch": each.epoch,
        "selected_on": selected_on,
        **({"fitted_on": None, "calibration": None, "thresholds": None} if fitted is None else fitted.header()),
        "splits": entries,
    }
