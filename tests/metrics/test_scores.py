"""The scores of an evaluation against examples that are worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.metrics.scores import score


def test_by_hand():
    logits = torch.tensor([[3.0, 1.0], [2.0, -1.0], [1.0, 2.0], [-1.0, -2.0]])
    labels = torch.tensor([[1, -1], [-1, 1], [1, 1], [1, -1]], dtype=torch.int8)
    result = score(logits, labels)
    # class 0, ranks 1 3 4: (1/1 + 2/3 + 3/4) / 3; class 1, ranks 1 3: (1/1 + 2/3) / 2
    assert result.ap == pytest.approx([100 * 29 / 36, 100 * 5 / 6])
    assert result.mean_ap == pytest.approx(50 * (29 / 36 + 5 / 6))
    # above 0.5: class 0 three, two of them true, of three; class 1 two, one true, of two
    precision, recall = (2 / 3 + 1 / 2) / 2, (2 / 3 + 1 / 2) / 2
    assert result.cf1 == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert result.of1 == pytest.approx(100 * 2 * (3 / 5) * (3 / 5) / (6 / 5))


def test_classes_without_positives_are_left_out():
    logits = torch.tensor([[1.0, 5.0, 0.5], [-1.0, 5.0, -0.5]])
    labels = torch.tensor([[1, -1, 0], [-1, -1, 0]], dtype=torch.int8)
    result = score(logits, labels)
    assert (result.mean_ap, result.left_out, result.ap) == (100.0, 2, [100.0, None, None])
    assert result.cf1 == result.of1 == 100.0
    nothing = score(logits[:, 1:], labels[:, 1:])
    assert math.isnan(nothing.mean_ap)
    assert nothing.left_out == 2


def test_unknown_entries_do_not_count():
    logits = torch.tensor([[4.0], [3.0], [2.0], [1.0]])
    known = torch.tensor([[1], [-1], [1], [-1]], dtype=torch.int8)
    assert score(logits, known).mean_ap == pytest.approx(100 * (1 + 2 / 3) / 2)
    partly = torch.tensor([[1], [0], [1], [-1]], dtype=torch.int8)
    result = score(logits, partly)
    assert result.mean_ap == 100.0
    assert result.of1 == pytest.approx(100 * 2 * (2 / 3) / (1 + 2 / 3))


def test_large_logits_do_not_tie():
    logits = torch.tensor([[20.0], [19.0], [18.0]])  # all 1.0 after a sigmoid in float32
    labels = torch.tensor([[1], [-1], [-1]], dtype=torch.int8)
    assert score(logits, labels).mean_ap == 100.0
