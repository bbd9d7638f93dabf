"""How well the classes of each image are ranked: accuracy of the highest ones, F1 of a set of them."""

from __future__ import annotations

from torch import Tensor


def top_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Share in percent of the images with a known positive that have one among their k highest classes.

    Where an image has one positive, that is top-k accuracy; with k = 1 and several positives it is the accuracy that
    the reassessed ImageNet labels are made for (Beyer et al., "Are we done with ImageNet?", 2020). NaN where no image
    has a known positive.

    Args:
        logits: [N, C].
        labels: [N, C] int8: 1 positive, 0 unknown, -1 known negative.
        k: of more than C, all count.
    """
    logits, labels = _with_positive(logits, labels)
    highest = logits.topk(min(k, logits.shape[1]), 1).indices
    return 100 * float((labels.gather(1, highest) == 1).any(1).double().mean())


def f1_per_image(logits: Tensor, labels: Tensor, threshold: float) -> float:
    """F1 of each image's prediction in percent, averaged over the images with a known positive.

    What is predicted is the highest class and every class with a probability above the threshold, as the published
    code of MILe (arXiv 2111.12172) has it. Unknown classes do not count. NaN where no image has a known positive.

    Args:
        logits: [N, C].
        labels: [N, C] int8: 1 positive, 0 unknown, -1 known negative.
        threshold: a probability.
    """
    logits, labels = _with_positive(logits, labels)
    chosen = logits.sigmoid() > threshold
    chosen.scatter_(1, logits.argmax(1, keepdim=True), True)
    true = (chosen & (labels == 1)).sum(1).double()
    predicted, positive = (chosen & (labels != 0)).sum(1), (labels == 1).sum(1)
    return 100 * float((2 * true / (predicted + positive)).mean())


def _with_positive(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of images that have a known positive."""
    rows = (labels == 1).any(1)
    return logits[rows], labels[rows]
