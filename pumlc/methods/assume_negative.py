"""Binary cross-entropy with every unknown label taken for a negative: the baseline of work on incomplete labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pumlc.methods import LabelledImages, Step, describe_bad_rows


class AssumeNegative:
    """The mean over all images and classes of the binary cross-entropy; only a known positive counts as one.

    It is taken over this process's images. Processes have equally many, so that their number does not change the
    gradient.
    """

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        targets = (batch.labels == 1).to(logits.dtype)
        return Step(binary_cross_entropy_with_logits(logits, targets), logits.detach())

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        return describe_bad_rows(logits)
