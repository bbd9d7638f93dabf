"""Scores of what each image shows, against examples that are worked out by hand and against scikit-learn."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from pumlc.engine.config import Config
from pumlc.engine.evaluator import scores_of_images
from pumlc.metrics.ranking import f1_per_image, top_accuracy

LOGITS = torch.tensor(
    [
        [2.0, 1.0, -1.0, -3.0],
        [-1.0, -2.0, -3.0, -4.0],
        [0.5, 3.0, 2.5, -1.0],
        [9.0, 8.0, 7.0, 6.0],
    ]
)
LABELS = torch.tensor([[-1, 1, -1, -1], [1, -1, -1, -1], [1, 0, 1, -1], [0, 0, 0, 0]], dtype=torch.int8)


def test_accuracy_by_hand():
    """The last image has no known positive; of the others the second has one first, the rest one among two."""
    assert top_accuracy(LOGITS, LABELS, 1) == pytest.approx(100 / 3)
    assert top_accuracy(LOGITS, LABELS, 2) == 100.0
    assert top_accuracy(LOGITS[:, :2], LABELS[:, :2], 5) == 100.0  # two classes only
    assert math.isnan(top_accuracy(LOGITS[3:], LABELS[3:], 1))


@pytest.mark.parametrize("k", [1, 5])
def test_one_positive_is_top_k_accuracy(k):
    generator = torch.Generator().manual_seed(k)
    logits = torch.randn(200, 30, generator=generator)
    classes = torch.randint(30, (200,), generator=generator)
    labels = (2 * torch.nn.functional.one_hot(classes, 30) - 1).to(torch.int8)
    expected = top_k_accuracy_score(classes, logits, k=k, labels=range(30))
    assert top_accuracy(logits, labels, k) == pytest.approx(100 * expected)


def test_f1_by_hand():
    """Predicted at 0.5: {0, 1} of {1}; the highest, {0}, of {0}; {0, 1, 2}, of which 1 is unknown, of {0, 2}."""
    assert f1_per_image(LOGITS, LABELS, 0.5) == pytest.approx(100 * (2 / 3 + 1 + 1) / 3)
    # at 0.8, or a logit of 1.39: {0}, {0} and {1, 2}, of which 2 counts
    assert f1_per_image(LOGITS, LABELS, 0.8) == pytest.approx(100 * (0 + 1 + 2 / 3) / 3)
    assert math.isnan(f1_per_image(LOGITS[3:], LABELS[3:], 0.5))


def test_which_scores_a_run_asks_for():
    plain = Config("x", "csv")
    assert not scores_of_images(plain)
    assert list(scores_of_images(dataclasses.replace(plain, layout="folder"))) == ["top1", "top5"]
    functions = scores_of_images(dataclasses.replace(plain, layout="folder", method="mile", mile_threshold=0.8))
    assert {name: function(LOGITS, LABELS) for name, function in functions.items()} == {
        "top1": top_accuracy(LOGITS, LABELS, 1),
        "top5": 100.0,
        "F1_per_image": f1_per_image(LOGITS, LABELS, 0.8),
    }
