"""The table against scikit-learn, the error against an example worked out by hand."""

from __future__ import annotations

import pytest
import torch
from sklearn.calibration import calibration_curve

from pumlc.metrics.reliability import BINS, pooled, reliability
from tests.metrics.examples import random_scores


def test_agrees_with_scikit_learn():
    logits, labels = random_scores(700, 4, seed=0)
    probability = logits.double().sigmoid()
    by_class = reliability(probability, labels)
    for c in range(4):
        known = labels[:, c] != 0
        positives, means = calibration_curve(labels[known, c] == 1, probability[known, c], n_bins=BINS)
        filled = by_class.count[c] > 0
        assert by_class.positives[c, filled].tolist() == pytest.approx(positives.tolist())
        assert by_class.probability[c, filled].tolist() == pytest.approx(means.tolist())
        assert by_class.count[c].sum() == known.sum()
    known = labels != 0
    positives, means = calibration_curve(labels[known] == 1, probability[known], n_bins=BINS)
    together = pooled(by_class)
    filled = together.count > 0
    assert together.positives[filled].tolist() == pytest.approx(positives.tolist())
    assert together.probability[filled].tolist() == pytest.approx(means.tolist())


def test_by_hand():
    probability = torch.tensor([[0.01, 1.0], [0.05, 0.9], [0.55, 0.0], [0.9, 0.5]])
    labels = torch.tensor([[-1, 1], [1, 0], [1, -1], [0, -1]], dtype=torch.int8)
    table = reliability(probability, labels)
    assert table.count.shape == (2, BINS)
    # class 0: two at 0.03 on average of which half is positive, one at 0.55 that is; class 1: right twice, off by 0.5
    assert table.error.tolist() == pytest.approx([(2 * 0.47 + 0.45) / 3, 0.5 / 3])
    # as one: three below 1/15, of a mean of 0.02, of which a third is positive; the others have bins of their own
    assert float(pooled(table).error) == pytest.approx((3 * (1 / 3 - 0.02) + 0.5 + 0.45 + 0) / 6)


def test_what_is_unknown_or_absent():
    table = reliability(torch.rand(5, 2), torch.tensor([[0, 1]] * 5, dtype=torch.int8))
    assert table.error.isnan().tolist() == [True, False]
    assert table.probability[0].isnan().all()
    assert not pooled(table).error.isnan()
