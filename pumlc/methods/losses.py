"""The losses that are a sum over images and classes, and what of them changes over the epochs."""

from __future__ import annotations

from torch import nn

from pumlc.methods import LabelledImages, Method, Step
from pumlc.ops import LOSS_KINDS, elementwise_loss

GR_END = {"w": 2.0, "mu": 0.8, "sigma": 0.5}
"""Where the published schedule of gr ends; it begins at the defaults of LOSS_KINDS."""


class ElementwiseLoss(Method):
    """A loss of :func:`pumlc.ops.elementwise_loss` with its published values, over the images of all processes.

    splc corrects labels after the first epoch. The weights of gr move on a line with the epochs; as published, w is at
    its start in the first epoch and mu and sigma are at their end in the last.

    Args:
        kind: a key of LOSS_KINDS.
        epochs: of the whole run.
        processes: that share a batch, equally many images each. The gradient, which is averaged over them, is then that
            of one process with the whole batch: a loss that is a sum is multiplied by their number.
    """

    def __init__(self, kind: str, epochs: int = 1, processes: int = 1) -> None:
        self.kind = kind
        self.epochs = epochs
        self.is_repeatable = kind not in ("splc", "gr")
        self.factor = 1 if LOSS_KINDS[kind].mean else processes

    def parameters(self, epoch: int) -> dict[str, float]:
        """What of the loss's parameters is not at its default in an epoch, which counts from 0."""
        if self.kind == "splc":
            return {"correct": float(epoch > 0)}
        if self.kind == "gr":
            shares = {"w": epoch / self.epochs, "mu": (epoch + 1) / self.epochs, "sigma": (epoch + 1) / self.epochs}
            starts = {name: LOSS_KINDS["gr"].parameters[name].default for name in shares}
            return {name: starts[name] + (GR_END[name] - starts[name]) * share for name, share in shares.items()}
        return {}

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        loss = elementwise_loss(logits, batch.labels, self.kind, **self.parameters(epoch))
        return Step(loss if self.factor == 1 else self.factor * loss, logits.detach())
