"""Large Loss Matters (arXiv 2206.03740): unknown labels taken for negatives, but those with the largest losses."""

from __future__ import annotations

import math

from torch import Tensor, nn

from pumlc.methods import LabelledImages, Step, count_bad_rows
from pumlc.ops import large_loss


class LargeLoss:
    """LL-R (mode "reject") and LL-Ct (mode "correct").

    The first epoch is plain cross-entropy, every unknown label taken for a negative. In epoch t = 1, 2, ... the
    ceil(B C (t - 1) delta_rel / 100) largest losses on unknown labels of a batch are rejected or corrected, with all
    that equal the smallest of them: the longer a network has trained, the more of what is wrong it would memorise.

    A batch is this process's: each rejects or corrects its own share, and their number does not change how many are.
    Where the published code departs from the paper, this does not: known labels are never touched. How many are large
    is told to the device anew in every epoch, so that a CUDA graph of an epoch's step is not one of the next.

    Args:
        mode: "reject" or "correct", as in :func:`pumlc.ops.large_loss`.
        delta_rel: percent of all labels by which the large losses grow per epoch; at least 0.
    """

    def __init__(self, mode: str, delta_rel: float) -> None:
        if not 0 <= delta_rel <= 100:
            raise ValueError(f"delta_rel: got {delta_rel}, wanted a percentage from 0 to 100")
        self.mode = mode
        self.delta_rel = delta_rel

    def large(self, entries: int, epoch: int) -> int:
        """How many of the losses of a batch are large; ``epoch`` counts from 0."""
        return math.ceil(entries * epoch * self.delta_rel / 100)

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        loss, _ = large_loss(logits, batch.labels, self.large(logits.numel(), epoch), self.mode)
        return Step(loss, logits.detach())

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        return count_bad_rows(logits)
