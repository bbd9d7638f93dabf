"""The interval against average precision on images that are really drawn."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.metrics import bootstrap
from pumlc.metrics.average_precision import average_precision
from pumlc.metrics.bootstrap import few_positives, mean_ap_interval
from pumlc.metrics.scores import score
from tests.metrics.examples import random_scores


@pytest.mark.parametrize("tied", [False, True])
def test_a_weight_is_an_image_that_is_drawn_so_often(tied):
    scores, labels = random_scores(60, 7, seed=1, tied=tied)
    labels[:, 2] = -1  # no positive
    labels[1:, 4] = -1  # one, which some resamples lack
    weights = bootstrap._weights(60, 40, torch.Generator().manual_seed(5))
    assert weights.sum(0).tolist() == [60.0] * 40
    found = bootstrap._Groups(scores, labels).mean_ap(weights)
    for r in range(40):
        rows = torch.arange(60).repeat_interleave(weights[:, r].long())
        torch.testing.assert_close(found[r], average_precision(scores[rows], labels[rows]).nanmean())


def test_the_interval_is_that_of_the_resamples_less_twice_their_bias(monkeypatch):
    scores, labels = random_scores(50, 5, seed=2)
    weights = bootstrap._weights(50, 200, torch.Generator().manual_seed(9))
    means = bootstrap._Groups(scores, labels).mean_ap(weights)
    bias = means.mean() - average_precision(scores, labels).mean()
    ends = means.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))
    expected = (100 * (ends - 2 * bias)).tolist()
    found = mean_ap_interval(scores, labels, resamples=200, confidence=0.9, seed=9)
    assert found == pytest.approx(expected)
    assert found == mean_ap_interval(scores, labels, resamples=200, confidence=0.9, seed=9)
    assert found != mean_ap_interval(scores, labels, resamples=200, confidence=0.9, seed=10)
    monkeypatch.setattr(bootstrap, "_NUMBERS", 1)  # one resample after another, others than before
    assert mean_ap_interval(scores, labels, resamples=200, confidence=0.9, seed=9) == pytest.approx(expected, abs=5)


def test_it_covers_the_truth_as_often_as_it_says():
    """Of 80 samples of a population, 95 % should do, give or take three deviations of that count and a small bias."""
    population, labels = random_scores(20000, 4, seed=3, unknown=0.0)
    truth = 100 * float(average_precision(population, labels).mean())
    covered = 0
    for seed in range(80):
        rows = torch.randint(20000, (300,), generator=torch.Generator().manual_seed(seed))
        low, high = mean_ap_interval(population[rows], labels[rows], resamples=200)
        covered += low <= truth <= high
    assert 69 <= covered < 80


def overlapping(images: int, classes: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores N(1.5, 1) of a share of positives, and N(0, 1) of the others."""
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(images, classes, generator=generator) < share
    scores = torch.randn(images, classes, generator=generator) + 1.5 * positive
    return scores, torch.where(positive, 1, -1).to(torch.int8)


def test_it_covers_the_truth_of_many_rare_classes():
    """30 positives each of 80 classes, where the percentiles alone never do."""
    truth = 100 * float(average_precision(*overlapping(400_000, 1, 0.03, seed=100)).mean())
    covered = 0
    for seed in range(15):
        low, high = mean_ap_interval(*overlapping(1000, 80, 0.03, seed), resamples=100)
        covered += low <= truth <= high
    assert covered >= 9


@pytest.mark.parametrize(("images", "share"), [(1000, 0.01), (60, 0.05), (4, 0.5)])
def test_the_estimate_lies_inside(images, share):
    for seed in range(5):
        scores, labels = overlapping(images, 30, share, seed)
        low, high = mean_ap_interval(scores, labels, resamples=50)
        assert 0 <= low <= score(scores, labels).mean_ap <= high <= 100


def test_classes_with_few_positives_are_counted():
    labels = -torch.ones(40, 4, dtype=torch.int8)
    labels[:29, 1] = labels[:30, 2] = labels[:1, 3] = 1
    assert few_positives(labels) == 2
    labels[29, 1] = 1
    labels[5, 2] = 0
    assert few_positives(labels) == 2


def test_one_image_and_no_positive():
    one = torch.ones(1, 1, dtype=torch.int8)
    assert mean_ap_interval(torch.zeros(1, 1), one, resamples=3) == (100.0, 100.0)
    assert all(map(math.isnan, mean_ap_interval(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int8))))
