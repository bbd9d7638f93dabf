"""Turning complete labels into incomplete ones, to train on while the complete ones are kept for evaluation."""

from __future__ import annotations

import numpy as np

from pumlc.errors import InputError

DRAWS_PER_BLOCK = 1 << 22  # 32 MiB of random numbers at a time; the stream is the same in one piece or in many


def keep_proportion(labels: np.ndarray, prob: float, seed: int = 0) -> np.ndarray:
    """Keep each label with probability ``prob``; the others become unknown.

    An entry is kept where ``numpy.random.RandomState(seed).random_sample([N, C]) < prob``. With seed 0 these are
    bit for bit the masks of the published PU-MLC and partial-label code, provided that the rows are all the
    images of the annotation file, in its order (images without an annotation included). What is kept at one
    proportion is kept at every larger one.

    Args:
        labels: int8 [N, C], 1 positive, 0 unknown, -1 negative.
        prob: in (0, 1].

    Returns:
        int8 [N, C], a new matrix.
    """
    if not 0 < prob <= 1:
        raise InputError(f"The proportion of labels to keep is {prob}; a number above 0 and at most 1 was wanted.")
    random = np.random.RandomState(seed)
    kept = np.zeros_like(labels)
    rows, classes = labels.shape
    step = max(1, DRAWS_PER_BLOCK // max(classes, 1))
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        keep = random.random_sample([block.stop - start, classes]) < prob
        kept[block][keep] = labels[block][keep]
    return kept


def single_positive(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Keep one positive of each image, drawn uniformly; everything else becomes unknown.

    An image with no positive gets no label.

    Args:
        labels: int8 [N, C], 1 positive, 0 unknown, -1 negative.

    Returns:
        int8 [N, C] of 0 and 1, a new matrix.
    """
    positive = labels == 1
    order = positive.cumsum(axis=1, dtype=np.int32)  # 1, 2, ... at the positives of a row
    count = order[:, -1]
    chosen = np.random.RandomState(seed).randint(0, np.maximum(count, 1)) + 1
    return (positive & (order == chosen[:, None])).astype(np.int8)
