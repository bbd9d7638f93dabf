"""Which labels are suspicious, and the table of them."""

from __future__ import annotations

import csv

import pytest
import torch

from pumlc.report.gallery import GROUPS, choose, shown_classes
from pumlc.report.predictions import Predictions
from pumlc.report.suspicious import suspicions, write_suspicions


def predictions(labels: list[list[int]], observed: list[list[int]], probabilities: list[list[float]]) -> Predictions:
    truth = torch.tensor(labels, dtype=torch.int8)
    probability = torch.tensor(probabilities, dtype=torch.float64)
    loss = -torch.where(truth == 1, probability, 1 - probability).log()
    return Predictions(
        split="train",
        paths=[f"/pictures/{row}.jpg" for row in range(len(labels))],
        class_names=[f"class {c}" for c in range(len(labels[0]))],
        labels=truth,
        observed=torch.tensor(observed, dtype=torch.int8),
        probabilities=probability,
        thresholds=torch.full((len(labels[0]),), 0.5, dtype=torch.float64),
        losses=torch.where(truth != 0, loss, 0).sum(1) / (truth != 0).sum(1),
    )


def test_confident_disagreements():
    # of the first class, 0.8 is the mean where it is given, 0.43 where it is not; nobody has the second; the third is
    # always low, so that its mean of 0.3 is no confidence; and the fourth always high
    rows = [[1, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1], [-1, -1, -1], [0, 0, 0], [0, 0, 0], [-1, 0, 0]]
    fourth = [0.6, 0.95, *[0.7] * 6]
    observed = [[*row, 1 if number < 2 else -1] for number, row in enumerate(rows)]
    labels = [row[:] for row in observed]
    labels[5][:3] = [1, 0, -1]
    labels[6][:3] = [-1, 0, 0]
    first = [0.99, 0.95, 0.46, 0.9, 0.79, 0.97, 0.82, 0.05]
    third = [0.3, 0.3, 0.4, 0.45, 0.2, 0.1, 0.1, 0.1]
    probabilities = [[a, 0.99, c, d] for a, c, d in zip(first, third, fourth, strict=True)]
    found = suspicions(predictions(labels, observed, probabilities))
    assert [(each.path[-5], each.class_name[-1], each.given, each.annotated) for each in found] == [
        ("3", "0", -1, -1),
        ("2", "0", 1, 1),
        ("5", "0", 0, 1),
        ("6", "0", 0, -1),
    ]
    assert [each.probability for each in found] == pytest.approx([0.9, 0.46, 0.97, 0.82])


def test_table_keeps_any_name(tmp_path):
    odd = b"a\tb\n\xff\"'.jpg".decode("utf-8", "surrogateescape")
    found = suspicions(predictions([[1], [1], [-1]], [[1], [1], [-1]], [[0.9], [0.7], [0.95]]))
    path = write_suspicions(tmp_path, [found[0]._replace(path=odd, class_name='cat "x"')])
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, row = csv.reader(file, dialect="excel-tab")
    assert header == ["file", "class", "given", "probability", "annotated"]
    assert row == [odd, 'cat "x"', "negative", "0.9500", "negative"]


def test_pictures_are_the_worst_the_best_and_some_between():
    count = 20
    labels = [[1]] * (count - 1) + [[0]]  # of the last, nothing is known
    split = predictions(labels, labels, [[(row + 1) / 25] for row in range(count)])
    chosen = choose(split, 9, seed=0)
    rows = {group: [choice.row for choice in chosen if choice.group == group] for group in GROUPS}
    assert rows[GROUPS[0]] == [0, 1, 2]
    assert rows[GROUPS[2]] == [18, 17, 16]
    assert len(set(rows[GROUPS[1]])) == 3
    assert set(rows[GROUPS[1]]) <= set(range(3, 16))
    assert choose(split, 9, seed=0) == chosen != choose(split, 9, seed=1)
    for more in (1, 2, 50):
        assert len({choice.row for choice in choose(split, more, seed=0)}) == min(more, count - 1)


def test_shown_classes_begin_with_mistakes():
    split = predictions([[1, -1, 1, 0, -1]], [[1, -1, 0, 0, -1]], [[0.9, 0.8, 0.2, 0.6, 0.1]])
    assert shown_classes(split, 0) == [1, 2, 0, 3]
    nothing = predictions([[-1, -1]], [[-1, -1]], [[0.1, 0.3]])
    assert shown_classes(nothing, 0) == [1]
