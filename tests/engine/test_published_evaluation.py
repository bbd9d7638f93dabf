"""The test-set maxima against a walk over every threshold, and what they take for a negative."""

from __future__ import annotations

import pytest
import torch

from pumlc.engine.published_evaluation import THRESHOLDS, TestSetMaxima
from pumlc.metrics.scores import score


def test_highest_of_thresholds_evaluations_and_weights():
    # one class; of the four images two are positive: probabilities above and below by kind of weights
    labels = torch.tensor([[1], [1], [-1], [-1]], dtype=torch.int8)
    sharp = torch.tensor([0.30, 0.20, 0.10, 0.05]).logit()[:, None]  # 0.2 parts them, at 0.5 nothing is chosen
    blunt = torch.tensor([0.6, 0.2, 0.4, 0.4]).logit()[:, None]
    assert score(sharp, labels).cf1 == 0
    maxima = TestSetMaxima()
    maxima.update({"model": blunt}, labels)
    # all four from 0.01 to 0.2: 2 * (1/2) * 1 / (3/2); one from 0.41 to 0.6: 2 * 1 * (1/2) / (3/2)
    assert maxima.values == pytest.approx({"mAP": 75.0, "CF1": 200 / 3, "OF1": 200 / 3})
    for logits in ({"model": blunt, "ema": sharp}, {"model": blunt}):  # a lower score later changes nothing
        maxima.update(logits, labels)
        assert maxima.values == pytest.approx({"mAP": 100.0, "CF1": 100.0, "OF1": 100.0})
    assert maxima.summary().startswith("published evaluation (test-set maxima): mAP 100.00, CF1 100.00, OF1 100.00.")


def test_thresholds():
    assert (len(THRESHOLDS), THRESHOLDS[0], THRESHOLDS[-1]) == (99, 0.01, 0.99)
    labels = torch.tensor([[1], [-1]], dtype=torch.int8)
    maxima = TestSetMaxima()
    maxima.update({"model": torch.tensor([[0.992], [0.991]]).logit()}, labels)
    assert maxima.values["OF1"] == pytest.approx(200 / 3)  # no threshold is between them


def test_unknown_is_negative_and_classes_without_positives_are_left_out():
    labels = torch.tensor([[1, -1], [0, -1]], dtype=torch.int8)
    logits = torch.tensor([[1.0, 3.0], [2.0, 3.0]])
    assert score(logits, labels).mean_ap == 100
    maxima = TestSetMaxima()
    maxima.update({"model": logits}, labels)
    assert maxima.values == pytest.approx({"mAP": 50.0, "CF1": 200 / 3, "OF1": 200 / 3})
    empty = TestSetMaxima()
    empty.update({"model": logits}, torch.full_like(labels, -1))
    assert empty.values == {"mAP": 0.0, "CF1": 0.0, "OF1": 0.0}
