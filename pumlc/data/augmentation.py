"""The augmentation as data: which order, which region of each image, which flips, for one epoch.

Everything random about an epoch is drawn here, by NumPy, for all images at once. An epoch is therefore a pure
function of the seed and its number: the same on any number of ranks, with any batch size, resumed at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pumlc.errors import InputError

CROPS_512 = (1.0, 7 / 8, 3 / 4, 5 / 8, 1 / 2)
"""Crop sides of the published recipe at scale 512: 512, 448, 384, 320, 256."""

CROPS_640 = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Crop sides of the published recipe at scale 640: 640, 576, 512, 448, 384, 320."""


@dataclass(frozen=True)
class Augmentation:
    """Resize to ``scale`` x ``scale``, crop a random side at a random place, resize to ``image_size``, flip.

    The recipe of PU-MLC (arXiv 2306.16016). Both resizes together are one resample of a region of the source,
    and the region alone is what is drawn.
    """

    image_size: int = 448
    """Side of the square image that the network sees, in pixels."""
    scale: int | None = None
    """Side of the square that crops are cut from, in pixels; None keeps the published 512 : 448."""
    crops: tuple[float, ...] = CROPS_512
    """Crop sides as shares of ``scale``; each image draws one of them, all equally likely."""
    flip: float = 0.5
    """Probability that an image is mirrored left to right."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise InputError(f"image_size is {self.image_size}; it must be at least 1 pixel.")
        if self.scale is not None and self.scale < 1:
            raise InputError(f"scale is {self.scale}; it must be at least 1 pixel, or None to follow image_size.")
        if not self.crops or not all(0 < crop <= 1 for crop in self.crops):
            raise InputError(f"crops are {self.crops}; give at least one share, each above 0 and at most 1.")
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip is {self.flip}; it is a probability and must lie in [0, 1].")

    @property
    def scale_size(self) -> int:
        """Side of the square that crops are cut from, in pixels."""
        return self.scale or max(1, round(self.image_size * 512 / 448))

    @property
    def crop_sizes(self) -> tuple[int, ...]:
        """Crop sides in pixels of the ``scale_size`` square."""
        return tuple(max(1, round(crop * self.scale_size)) for crop in self.crops)


@dataclass(frozen=True)
class EpochPlan:
    """What happens to each of N images in one epoch. Row i belongs to image i, wherever ``order`` puts it."""

    order: np.ndarray
    """[N] int64, a permutation: the images in the order in which they are seen."""
    start: np.ndarray
    """[N, 2] float32, top and left edge of the region, as shares of the image's height and width."""
    end: np.ndarray
    """[N, 2] float32, bottom and right edge, likewise."""
    mirror: np.ndarray
    """[N] int32, 1 where the region is mirrored left to right."""


def plan_epoch(augmentation: Augmentation, count: int, *, seed: int, epoch: int) -> EpochPlan:
    """Draw one epoch for ``count`` images.

    Only raw bits of the counter-based Philox generator are used, turned into numbers here: NumPy promises those
    bits for good, which it does not for its distributions.
    """
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 2**64:
            raise InputError(f"{name} is {value}; it must be an integer from 0 to 2**64 - 1.")
    key = np.array([seed, epoch], dtype=np.uint64)
    bits = np.random.Philox(key=key).random_raw(5 * count).reshape(5, count)
    for_order, for_side, for_top, for_left, for_flip = bits

    scale = augmentation.scale_size
    sides = np.array(augmentation.crop_sizes, dtype=np.uint64)
    side = sides[_below(for_side, np.uint64(len(sides)))]
    places = np.uint64(scale) - side + np.uint64(1)
    start = np.stack([_below(for_top, places), _below(for_left, places)], axis=1)
    return EpochPlan(
        order=np.argsort(for_order, kind="stable"),
        start=(start / scale).astype(np.float32),
        end=((start + side[:, None]) / scale).astype(np.float32),
        mirror=((for_flip >> np.uint64(11)) * 2.0**-53 < augmentation.flip).astype(np.int32),
    )


def whole_images(count: int) -> EpochPlan:
    """The plan of an evaluation: every image whole, upright, in the order of the files."""
    return EpochPlan(
        order=np.arange(count),
        start=np.zeros((count, 2), dtype=np.float32),
        end=np.ones((count, 2), dtype=np.float32),
        mirror=np.zeros(count, dtype=np.int32),
    )


def _below(bits: np.ndarray, bound: np.ndarray | np.uint64) -> np.ndarray:
    """Uniform integers in [0, bound) from 64 random bits each, for bounds below 2**32."""
    return ((bits >> np.uint64(32)) * bound) >> np.uint64(32)
