"""The thresholds against a walk over every cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from pumlc.metrics import thresholds
from pumlc.metrics.f1 import THRESHOLD, f1
from pumlc.metrics.thresholds import choose_thresholds
from tests.metrics.examples import random_scores, scored


def highest_of1(logits: Tensor, labels: Tensor) -> float:
    """Over one threshold for all that is given, every score among them."""
    return max(f1(logits >= cut, labels)[1] for cut in logits.unique())


@settings(deadline=None)
@given(scored(values=12))
def test_no_cut_is_better(example):
    logits, labels = example
    positives = (labels == 1).sum(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "FEWEST_POSITIVES", 1)
        own = choose_thresholds(logits, labels)
        patch.setattr(thresholds, "FEWEST_POSITIVES", len(logits) + 1)
        shared = choose_thresholds(logits, labels)
    assert len(shared.unique()) == 1
    if not positives.any():
        assert own.tolist() == shared.tolist() == [THRESHOLD] * len(own)
        return
    probability = logits.double().sigmoid()
    assert f1(probability >= shared, labels)[1] == pytest.approx(highest_of1(logits, labels))
    both = (positives > 0) & (labels == -1).any(0)
    for c in both.nonzero()[:, 0].tolist():
        column = slice(c, c + 1)
        found = f1(probability[:, column] >= own[c], labels[:, column])[1]
        assert found == pytest.approx(highest_of1(logits[:, column], labels[:, column]))
    assert own[~both].tolist() == shared[~both].tolist()


def test_a_class_with_few_positives_takes_the_shared_one():
    logits, labels = random_scores(400, 3, seed=0, unknown=0.0)
    labels[:, 2] = -1
    labels[:9, 2] = 1
    found = choose_thresholds(logits, labels)
    labels[9, 2] = 1  # the tenth
    own = choose_thresholds(logits, labels)
    assert found[2] != own[2]
    assert found[0] != found[2] != found[1]
    assert own[2] == choose_thresholds(logits[:, 2:], labels[:, 2:])[0]


def test_it_lies_halfway_to_the_next_score():
    logits = torch.tensor([[3.0], [1.0], [-1.0], [-2.0]]).repeat(5, 1)
    labels = torch.tensor([[1], [1], [-1], [-1]], dtype=torch.int8).repeat(5, 1)
    assert choose_thresholds(logits, labels).tolist() == [0.5]
    assert choose_thresholds(logits, labels.abs()).logit().tolist() == pytest.approx([-2.5])  # all are positive
