"""Large Loss Matters (arXiv 2206.03740): unknown labels taken for negatives, but those with the largest losses."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pumlc.methods import LabelledImages, Step, describe_bad_rows
from pumlc.ops import large_loss


class LargeLoss:
    """LL-R (mode "reject") and LL-Ct (mode "correct").

    The first epoch is plain cross-entropy, every unknown label taken for a negative. In epoch t = 1, 2, ... the
    ceil(B C (t - 1) delta_rel / 100) largest losses on unknown labels of a batch are rejected or corrected, with all
    that equal the smallest of them: the longer a network has trained, the more of what is wrong it would memorise.

    Known labels are never touched, in which the published code departs from the paper where R rounds to 0. How many
    losses are large is a number on the host, which a CUDA graph of a step would repeat in every later epoch.

    Args:
        mode: "reject" or "correct", as in :func:`pumlc.ops.large_loss`.
        delta_rel: percent of all labels by which the large losses grow per epoch, 0 to 100.
        group: processes that share a batch, equally many images each: the large losses are the largest of all of them,
            and loss and gradient, which is averaged over them, those of one process with the whole batch. None: the
            largest of each process's own.
    """

    def __init__(self, mode: str, delta_rel: float, group: dist.ProcessGroup | None = None) -> None:
        if not 0 <= delta_rel <= 100:
            raise ValueError(f"delta_rel: got {delta_rel}, wanted a percentage from 0 to 100")
        self.mode = mode
        self.delta_rel = delta_rel
        self.group = group

    def large(self, entries: int, epoch: int) -> int:
        """How many of the losses of a batch are large; ``epoch`` counts from 0."""
        return math.ceil(entries * epoch * self.delta_rel / 100)

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        return Step(self._loss(logits, batch.labels, epoch), logits.detach())

    def _loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor:
        if self.group is None:
            return large_loss(logits, labels, self.large(logits.numel(), epoch), self.mode)[0]
        all_logits, all_labels = _gather(logits, self.group), _gather(labels, self.group)
        loss, _ = large_loss(all_logits, all_labels, self.large(all_logits.numel(), epoch), self.mode)
        size = dist.get_world_size(self.group)
        return loss.detach() + size * (loss - loss.detach())  # its gradient will be divided by the size

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        return describe_bad_rows(logits)


def _gather(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """[B, C] of each process -> [B size, C], in the order of the ranks, differentiated by this process's rows alone."""
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    parts[dist.get_rank(group)] = tensor
    return torch.cat(parts)
