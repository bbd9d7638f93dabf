"""The drawn plan of an epoch: reproducible for good, uniform, and exactly the published recipe."""

from __future__ import annotations

import numpy as np
import pytest

from pumlc.data.augmentation import CROPS_640, Augmentation, plan_epoch
from pumlc.errors import InputError


def test_the_published_sizes():
    assert Augmentation().scale_size == 512
    assert Augmentation().crop_sizes == (512, 448, 384, 320, 256)
    assert Augmentation(scale=640, crops=CROPS_640).crop_sizes == (640, 576, 512, 448, 384, 320)


def test_sizes_scale_with_the_image():
    assert Augmentation(image_size=112).scale_size == 128
    assert Augmentation(image_size=112).crop_sizes == (128, 112, 96, 80, 64)
    assert Augmentation(image_size=1).crop_sizes == (1, 1, 1, 1, 1)


def test_golden_plan():
    """These numbers never change: a run of yesterday can be repeated tomorrow."""
    plan = plan_epoch(Augmentation(), 6, seed=0, epoch=0)
    assert plan.order.tolist() == [0, 2, 1, 5, 4, 3]
    assert (plan.start * 512).tolist() == [[147, 244], [65, 110], [56, 10], [0, 0], [53, 90], [0, 0]]
    assert (plan.end * 512).tolist() == [[403, 500], [321, 366], [504, 458], [512, 512], [373, 410], [512, 512]]
    assert plan.mirror.tolist() == [0, 1, 0, 0, 1, 0]


def test_an_epoch_is_a_function_of_seed_and_number():
    plans = {
        (seed, epoch): plan_epoch(Augmentation(), 100, seed=seed, epoch=epoch) for seed in (0, 7) for epoch in (0, 1)
    }
    orders = {tuple(plan.order) for plan in plans.values()}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(100)) for order in orders)
    again = plan_epoch(Augmentation(), 100, seed=7, epoch=1)
    for name in ("order", "start", "end", "mirror"):
        np.testing.assert_array_equal(getattr(again, name), getattr(plans[7, 1], name))


def test_every_choice_is_equally_likely():
    plan = plan_epoch(Augmentation(), 50_000, seed=3, epoch=0)
    top, left = np.rint(plan.start * 512).astype(int).T
    bottom, right = np.rint(plan.end * 512).astype(int).T
    np.testing.assert_array_equal(bottom - top, right - left)

    sides, counts = np.unique(bottom - top, return_counts=True)
    assert sides.tolist() == [256, 320, 384, 448, 512]
    np.testing.assert_allclose(counts, 10_000, rtol=0.05)  # 4.5 standard deviations
    assert plan.mirror.mean() == pytest.approx(0.5, abs=0.01)

    for edge in (top, left):  # side 448 has the places 0 to 64
        places, counts = np.unique(edge[bottom - top == 448], return_counts=True)
        assert places.tolist() == list(range(65))
        assert counts.min() > 90  # 154 expected
    assert abs(np.corrcoef(top[bottom - top == 256], left[bottom - top == 256])[0, 1]) < 0.05


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, 0), (1.0, 1000)])
def test_flip_probability(flip, mirrored):
    assert plan_epoch(Augmentation(flip=flip), 1000, seed=0, epoch=0).mirror.sum() == mirrored


@pytest.mark.parametrize(
    "wrong",
    [{"image_size": 0}, {"scale": 0}, {"crops": ()}, {"crops": (1.0, 1.2)}, {"crops": (0.0,)}, {"flip": 1.5}],
    ids=str,
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)


@pytest.mark.parametrize("wrong", [{"seed": -1, "epoch": 0}, {"seed": 2**64, "epoch": 0}, {"seed": 0, "epoch": -1}])
def test_seeds_out_of_range(wrong):
    with pytest.raises(InputError, match=r"0 to 2\*\*64 - 1"):
        plan_epoch(Augmentation(), 3, **wrong)
