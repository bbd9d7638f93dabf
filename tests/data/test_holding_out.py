"""A held-out split: which images, with which labels, and where it is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pumlc.data import Dataset, Splits, hold_out
from pumlc.errors import InputError


def data(images=10, unknown=False):
    """Image i is positive for class i % 3 alone; the others are negative, or ``unknown``."""
    labels = np.full((images, 3), 0 if unknown else -1, np.int8)
    labels[np.arange(images), np.arange(images) % 3] = 1
    return Splits(
        Dataset("mine", "train", tuple(f"{i}.jpg" for i in range(images)), labels, ("a", "b", "c"), ("note",))
    )


def test_the_images_are_those_of_the_published_draw():
    splits, kept = hold_out(data(), 0.2, seed=1200)
    # RandomState(1200).permutation(10) is 9 4 6 1 8 5 2 0 | 7 3
    assert splits.val.paths == ("3.jpg", "7.jpg")
    assert kept.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]


def test_every_image_is_in_one_part_with_its_labels():
    whole = data(50)
    splits, kept = hold_out(whole, 0.3, seed=4)
    assert (splits.train.split, splits.val.split) == ("train", "val")
    assert (len(splits.train), len(splits.val)) == (35, 15)
    assert sorted(splits.train.paths + splits.val.paths) == sorted(whole.train.paths)
    for part in (splits.train, splits.val):
        rows = [int(path.removesuffix(".jpg")) for path in part.paths]
        assert rows == sorted(rows)
        assert np.array_equal(part.labels, whole.train.labels[rows])
    assert np.array_equal(splits.train.labels, whole.train.labels[kept])
    assert splits.train.notes == ("note",)
    assert splits.val.notes == ("Held out as val, with all labels: 15 of 50 training images.",)


def test_seed_and_test_split():
    whole = dataclasses.replace(data(50), test=dataclasses.replace(data(4).train, split="test"))
    first, again, other = (hold_out(whole, 0.3, seed)[0] for seed in (4, 4, 5))
    assert first.val.paths == again.val.paths != other.val.paths
    assert first.test is whole.test


def test_every_image_can_be_drawn():
    drawn = {path for seed in range(40) for path in hold_out(data(), 0.5, seed)[0].val.paths}
    assert drawn == set(data().train.paths)


def test_unknown_labels_may_count_as_negative():
    whole = data(unknown=True)
    splits, _ = hold_out(whole, 0.2, unknown_is_negative=True)
    assert sorted(splits.val.labels[0].tolist()) == [-1, -1, 1]
    assert splits.val.notes[0].endswith("What is unknown of them counts as negative.")
    assert (splits.train.labels >= 0).all()
    assert (whole.train.labels >= 0).all()


def test_refused():
    with_val = dataclasses.replace(data(), val=dataclasses.replace(data(4).train, split="val"))
    for message, splits, share in (
        ("--hold-out is 0.2, but mine has a val split of 4 images", with_val, 0.2),
        ("--hold-out is 0.04, which is 0 of the 10 training images", data(), 0.04),
        ("--hold-out is 1, which is 10 of the 10 training images", data(), 1.0),
        ("among the 2 images of mine that are held out no class has both", data(unknown=True), 0.2),
        ("among the 1 images of mine that are held out no class has both", data(), 0.1),
    ):
        with pytest.raises(InputError, match=message):
            hold_out(splits, share)
