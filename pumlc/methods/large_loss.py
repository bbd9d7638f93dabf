"""Large Loss Matters (arXiv 2206.03740): unknown labels taken for negatives, but those with the largest losses."""

from __future__ import annotations

import math
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from pumlc.methods import LabelledImages, Method, Step
from pumlc.methods.label_store import LabelStore
from pumlc.methods.sharing import for_averaging, gather, gather_values, is_first
from pumlc.ops import large_loss


class LargeLoss(Method):
    """LL-R (mode "reject"), LL-Ct (mode "correct") and LL-Cp (mode "correct" with a store of labels).

    The first epoch is plain cross-entropy, every unknown label taken for a negative. In epoch t = 2, 3, ... the
    largest losses on unknown labels of a batch are rejected or corrected, with all that equal the smallest of them:
    ceil(B C (t - 1) delta_rel / 100) of them for LL-R and LL-Ct, since the longer a network has trained, the more of
    what is wrong it would memorise; ceil(B C delta_rel / 100) in every epoch for LL-Cp, whose corrections are for
    good: from the next epoch on, those labels are known positives.

    Known labels are never touched, in which the published code departs from the paper where R rounds to 0; and LL-Cp
    corrects what it says, where the published code does as LL-Ct.

    Args:
        mode: "reject" or "correct", as in :func:`pumlc.ops.large_loss`.
        delta_rel: percent of all labels, 0 to 100.
        group: processes that share a batch, equally many images each: the large losses are the largest of all of them,
            and loss and gradient, which is averaged over them, those of one process with the whole batch. None: the
            largest of each process's own.
        store: where corrections are kept for good, which makes it LL-Cp; None for the two others.

    Raises:
        ValueError: a share out of range, or a store of what is rejected.
    """

    is_repeatable = False  # how many losses are large is a number on the host, and another one in every epoch

    def __init__(
        self,
        mode: str,
        delta_rel: float,
        group: dist.ProcessGroup | None = None,
        store: LabelStore | None = None,
    ) -> None:
        if not 0 <= delta_rel <= 100:
            raise ValueError(f"delta_rel: got {delta_rel}, wanted a percentage from 0 to 100")
        if store is not None and mode != "correct":
            raise ValueError(f'mode: got {mode!r} with a store of labels, wanted "correct": there is nothing to keep')
        self.mode = mode
        self.delta_rel = delta_rel
        self.group = group
        self.store = store
        self._changed: int | Tensor = 0  # [] int64, entries of this epoch that this process rejected or corrected

    def large(self, entries: int, epoch: int) -> int:
        """How many of the losses of a batch are large; ``epoch`` counts from 0."""
        share = epoch if self.store is None else min(epoch, 1)
        return math.ceil(entries * share * self.delta_rel / 100)

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        loss, changed = self._loss(logits, batch.labels, epoch)
        self._changed = self._changed + changed.sum()
        if self.store is not None:
            self.store.propose(batch.index, changed, logits, epoch)
        return Step(loss, logits.detach())

    def _loss(self, logits: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The loss, and which of this process's entries [B, C] are large."""
        if self.group is None:
            return large_loss(logits, labels, self.large(logits.numel(), epoch), self.mode)
        all_logits, all_labels = gather(logits, self.group), gather(labels, self.group)
        loss, changed = large_loss(all_logits, all_labels, self.large(all_logits.numel(), epoch), self.mode)
        size, rank = dist.get_world_size(self.group), dist.get_rank(self.group)
        return for_averaging(loss, self.group), changed.chunk(size)[rank]

    def end_epoch(self, epoch: int) -> dict[str, float]:
        numbers = {f"{self.mode}ed": self._changed_by_all()}
        self._changed = 0
        if self.store is not None:
            self.store.commit()
            numbers["corrected_for_good"] = len(self.store.edits.image)
        return numbers

    def state_dict(self) -> dict[str, Any]:
        return {"changed": self._changed_by_all(), "store": self.store and self.store.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._changed = state["changed"] if is_first(self.group) else 0
        if self.store is not None:
            self.store.load_state_dict(state["store"])

    def _changed_by_all(self) -> int:
        return sum(gather_values(int(self._changed), self.group))
