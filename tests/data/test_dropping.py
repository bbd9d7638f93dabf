"""Label dropping: the published masks bit for bit, nested proportions, one positive per image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pumlc.data import dropping, keep_proportion, single_positive
from pumlc.errors import InputError

TEST_DATA = Path(os.environ.get("PUMLC_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


def full_labels(rows=400, classes=13):
    return np.where(np.random.RandomState(5).random_sample([rows, classes]) < 0.2, 1, -1).astype(np.int8)


def test_the_first_entries_of_the_published_masks():
    kept = keep_proportion(np.ones((3, 5), np.int8), 0.6)
    # RandomState(0) begins 0.549 0.715 0.603 0.545 0.424 |
    # 0.646 0.438 0.892 0.964 0.383 | 0.792 0.529 0.568 0.926 0.071
    assert kept.tolist() == [[1, 0, 0, 1, 1], [0, 1, 0, 0, 1], [0, 1, 1, 0, 1]]


def test_kept_entries_are_as_annotated_and_the_rest_unknown():
    labels = full_labels()
    labels[:, 3] = 0  # unknown stays unknown
    mask = np.random.RandomState(0).random_sample(labels.shape) < 0.3
    kept = keep_proportion(labels, 0.3)
    assert kept.dtype == np.int8
    assert np.array_equal(kept, np.where(mask, labels, 0))


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    labels = full_labels()
    whole = keep_proportion(labels, 0.4)
    monkeypatch.setattr(dropping, "DRAWS_PER_BLOCK", 30)  # two rows at a time
    assert np.array_equal(keep_proportion(labels, 0.4), whole)


def test_proportions_are_nested():
    labels = full_labels()
    smaller = np.zeros(labels.shape, bool)
    for prob in (0.1, 0.3, 0.7, 1.0):
        kept = keep_proportion(labels, prob) != 0
        assert kept[smaller].all()
        assert kept.mean() == pytest.approx(prob, abs=0.03)
        smaller = kept


def test_the_whole_is_a_copy():
    labels = full_labels()
    kept = keep_proportion(labels, 1)
    assert np.array_equal(kept, labels)
    assert not np.shares_memory(kept, labels)


def test_seeds_differ():
    labels = full_labels()
    assert not np.array_equal(keep_proportion(labels, 0.5, seed=0), keep_proportion(labels, 0.5, seed=1))
    assert not np.array_equal(single_positive(labels, seed=0), single_positive(labels, seed=1))


@pytest.mark.parametrize("prob", [0, -0.1, 1.5, float("nan")])
def test_proportions_outside_the_range(prob):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        keep_proportion(full_labels(), prob)


def test_single_positive_keeps_one_positive_of_each_image_that_has_any():
    labels = full_labels(rows=50)
    labels[7] = -1
    kept = single_positive(labels, seed=3)
    assert kept.dtype == np.int8
    assert set(np.unique(kept)) == {0, 1}
    assert (labels[kept == 1] == 1).all()
    assert np.array_equal(kept.sum(1), (labels == 1).any(1))
    assert np.array_equal(kept, single_positive(labels, seed=3))


def test_single_positive_is_uniform():
    labels = np.tile(np.array([1, -1, 1, 0, 1], np.int8), (30_000, 1))
    share = single_positive(labels, seed=0).mean(0)
    assert share == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3], abs=0.01)


def test_ten_percent_of_coco():
    source = TEST_DATA / "coco2014_labels" / "coco2014_labels.npz"
    if not source.exists():
        pytest.skip(f"{source} is absent; set PUMLC_TEST_DATA to the folder that holds coco2014_labels/")
    present = np.load(source)["y"]
    labels = np.where(present == 1, 1, -1).astype(np.int8)
    mask = np.random.RandomState(0).random_sample(labels.shape) < 0.1
    kept = keep_proportion(labels, 0.1)
    assert np.array_equal(kept != 0, mask)
    assert (kept == 1).sum() == (present[mask] == 1).sum()
    assert (kept == 1).sum() / present.sum() == pytest.approx(0.1, abs=0.002)
    assert np.array_equal(single_positive(labels).sum(1), (present > 0).any(1))
