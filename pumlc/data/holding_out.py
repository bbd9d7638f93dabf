"""Setting training images aside with all their labels, to choose weights and thresholds on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pumlc.data.dataset import Splits
from pumlc.errors import InputError

DEFAULT_SHARE = 0.1


def hold_out(
    splits: Splits, share: float, seed: int = 0, *, unknown_is_negative: bool = False
) -> tuple[Splits, np.ndarray]:
    """Make a val split of a share of the training images, drawn uniformly, with their labels as they are annotated.

    The last ``round(share N)`` rows of ``numpy.random.RandomState(seed).permutation(N)`` are held out. That is how the
    codes of SPML and Large Loss Matters draw theirs, with a share of 0.2 and seed 1200, so that the images are the
    same where the rows are. Both parts keep the order of the rows. Labels are dropped from what ``splits`` held before,
    so that what is known of an image does not depend on how many others are held out.

    Args:
        splits: with complete labels and no val split.
        share: of the N training images, between 0 and 1.
        unknown_is_negative: take the unknown labels of the held-out images for negative, where the data knows a
            single positive of each image and nothing else.

    Returns:
        The splits with train and val, and the rows [n] int64 of the former train split that are still in it.

    Raises:
        InputError: there is a val split already, the share leaves one of the parts empty, or among the held-out images
            no class has both a positive and a known negative, against which it could be ranked.
    """
    train = splits.train
    if splits.val is not None:
        raise InputError(
            f"--hold-out is {share:g}, but {train.name} has a val split of {len(splits.val)} images. "
            "Leave the flag away: the weights are chosen on that split."
        )
    count = round(share * len(train))
    if not 0 < count < len(train):
        raise InputError(
            f"--hold-out is {share:g}, which is {count} of the {len(train)} training images of {train.name}; "
            "at least one must be held out and one be left."
        )
    order = np.random.RandomState(seed).permutation(len(train))
    kept, held = np.sort(order[:-count]), np.sort(order[-count:])
    labels = train.labels[held]
    if unknown_is_negative:
        labels[labels == 0] = -1
    note = f"Held out as val, with all labels: {count} of {len(train)} training images."
    if unknown_is_negative:
        note += " What is unknown of them counts as negative."
    val = replace(train, split="val", paths=tuple(train.paths[row] for row in held), labels=labels, notes=(note,))
    if not val.can_be_scored:
        raise InputError(
            f"--hold-out is {share:g}, but among the {count} images of {train.name} that are held out no class has "
            "both a positive and a known negative label, so that nothing can be chosen on them. Hold more images out, "
            "or add labels."
        )
    train = replace(train, paths=tuple(train.paths[row] for row in kept), labels=train.labels[kept])
    return Splits(train, val, splits.test), kept
