"""Both conventions of average precision: scikit-learn's, and that of the published codes entry by entry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from sklearn.metrics import average_precision_score
from torch import Tensor

from pumlc.metrics.average_precision import average_precision, published_average_precision
from tests.metrics.examples import random_scores, scored


def of_scikit_learn(scores: Tensor, labels: Tensor) -> list[float]:
    values = []
    for score, label in zip(scores.T, labels.T, strict=True):
        known, positive = label != 0, label == 1
        values.append(average_precision_score(positive[known], score[known]) if positive.any() else math.nan)
    return values


def entry_by_entry(scores: Tensor, labels: Tensor) -> list[float]:
    """As the published codes define it: precision at each positive, in the order of the sorted scores."""
    values = []
    for score, label in zip(scores.T, labels.T, strict=True):
        found, total = 0, 0.0
        for place, row in enumerate(score.argsort(descending=True, stable=True), start=1):
            if label[row] == 1:
                found += 1
                total += found / place
        values.append(total / max(found, 1))
    return values


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("images", [1, 41, 1271])
def test_agrees_with_scikit_learn(images, tied):
    scores, labels = random_scores(images, 13, seed=images, tied=tied)
    assert average_precision(scores, labels).tolist() == pytest.approx(of_scikit_learn(scores, labels), abs=1e-6)


@settings(deadline=None)
@given(scored(values=4))
def test_agrees_with_scikit_learn_where_most_scores_are_equal(example):
    scores, labels = example
    expected = pytest.approx(of_scikit_learn(scores, labels), abs=1e-6, nan_ok=True)
    assert average_precision(scores, labels).tolist() == expected


@settings(deadline=None)
@given(scored(values=6))
def test_published_convention(example):
    scores, labels = example
    assert published_average_precision(scores, labels).tolist() == pytest.approx(entry_by_entry(scores, labels))


def test_where_the_conventions_differ():
    scores = torch.tensor([[2.0, 1.0, 3.0, 1.0], [2.0, 1.0, 2.0, 0.0], [1.0, 0.0, 1.0, -1.0]])
    labels = torch.tensor([[-1, 1, 0, -1], [1, -1, 1, -1], [-1, -1, -1, -1]], dtype=torch.int8)
    # a tie that the positive loses; one that it wins; an unknown entry above it; no positive at all
    assert average_precision(scores, labels)[:3].tolist() == [0.5, 0.5, 1.0]
    assert average_precision(scores, labels)[3].isnan()
    assert published_average_precision(scores, labels).tolist() == [0.5, 1.0, 0.5, 0.0]


def test_they_are_the_same_where_nothing_ties_and_all_is_known():
    scores, labels = random_scores(200, 9, seed=3, unknown=0.0)
    assert len(scores.unique()) == scores.numel()
    torch.testing.assert_close(published_average_precision(scores, labels), average_precision(scores, labels))


def test_constant_and_infinite_scores():
    labels = torch.tensor([[1], [-1], [1], [-1]], dtype=torch.int8)
    assert average_precision(torch.zeros(4, 1), labels).tolist() == [0.5]
    infinite = torch.tensor([[math.inf], [0.0], [-math.inf], [-math.inf]])
    assert average_precision(infinite, labels).tolist() == pytest.approx([(1 + 2 / 4) / 2])
