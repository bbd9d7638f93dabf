"""CF1 and OF1 against scikit-learn, and many thresholds at once against one after another."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import precision_score, recall_score

from pumlc.metrics.f1 import f1, f1_at


def test_f1_of_what_is_chosen():
    labels = torch.tensor([[1, 1], [1, -1], [-1, 0]], dtype=torch.int8)
    chosen = torch.tensor([[True, False], [True, True], [True, True]])
    # class 0: two of three are true, of two; class 1: none of one that is known, of one
    precision, recall = (2 / 3 + 0) / 2, (1 + 0) / 2
    assert f1(chosen, labels)[0] == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert f1(chosen, labels)[1] == pytest.approx(100 * 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert f1(torch.zeros_like(chosen), labels) == (0.0, 0.0)


def examples(images: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities, many of them equal, and labels of which some are unknown; the first class has no positive."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 2, (images, classes), generator=generator).to(torch.int8)
    labels[:, 0] = -labels[:, 0].abs()
    return torch.randint(0, 21, (images, classes), generator=generator).double() / 20, labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_agrees_with_scikit_learn(seed, threshold):
    probability, labels = examples(40, 7, seed)
    labels = torch.where(labels == 0, -1, labels)  # which scikit-learn does not know
    chosen, positive = (probability >= threshold)[:, 1:], (labels == 1)[:, 1:]
    expected = []
    for average in ("macro", "micro"):
        precision = precision_score(positive, chosen, average=average, zero_division=0)
        recall = recall_score(positive, chosen, average=average)
        expected.append(100 * 2 * precision * recall / (precision + recall))
    assert f1(probability >= threshold, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_many_thresholds_in_one_pass(seed):
    probability, labels = examples(30, 6, seed)
    thresholds = torch.tensor([0.0, 0.05, 0.31, 0.5, 0.95, 1.0, 1.1], dtype=torch.float64)  # some of them scores
    cf1, of1 = f1_at(probability, labels, thresholds)
    one_by_one = [f1(probability >= threshold, labels) for threshold in thresholds]
    assert list(zip(cf1.tolist(), of1.tolist(), strict=True)) == one_by_one
    assert one_by_one[-1] == (0.0, 0.0)


def test_no_class_has_a_positive():
    probability, labels = torch.rand(4, 2), torch.full((4, 2), -1, dtype=torch.int8)
    assert all(map(math.isnan, f1(probability >= 0.5, labels)))
    cf1, of1 = f1_at(probability, labels, torch.tensor([0.2, 0.5]))
    assert cf1.shape == of1.shape == (2,)
    assert cf1.isnan().all()
    assert of1.isnan().all()
