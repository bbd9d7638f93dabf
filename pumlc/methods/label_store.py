"""The labels that a run trains on, and what a method has changed of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from pumlc.methods.sharing import gather_values, is_first

_NOT_CHOSEN = -1.0  # no probability


class Edits(NamedTuple):
    """E labels that became positive, on the host; in the order of epochs, images and classes."""

    image: Tensor  # [E] int64, row of the label matrix
    label: Tensor  # [E] int64, class
    epoch: Tensor  # [E] int64, counted from 1
    probability: Tensor  # [E] float32, of the class as the network saw it then

    @classmethod
    def none(cls) -> Edits:
        return cls(*(torch.empty(0, dtype=torch.int64) for _ in range(3)), torch.empty(0))

    @classmethod
    def joined(cls, parts: list[Edits]) -> Edits:
        return cls(*map(torch.cat, zip(*parts, strict=True)))


class _Transfer(NamedTuple):
    """A step's proposals on their way to the host."""

    index: Tensor  # [B] int64
    probability: Tensor  # [B, C] float32, _NOT_CHOSEN where nothing is proposed
    epoch: int
    done: torch.cuda.Event | None

    def has_arrived(self) -> bool:
        return self.done is None or self.done.query()

    def edits(self) -> Edits:
        if self.done is not None:
            self.done.synchronize()
        row, label = (self.probability != _NOT_CHOSEN).nonzero(as_tuple=True)
        epoch = torch.full_like(row, self.epoch + 1)
        return Edits(self.index[row], label, epoch, self.probability[row, label])


class LabelStore:
    """Collects changes of labels over an epoch and carries them out at its end, on every process alike.

    Args:
        labels: [N, C] int8 on the device of the batches, from which the loader takes them; edited in place.
        group: processes of which each has a copy of the labels; None for one alone.
    """

    def __init__(self, labels: Tensor, group: dist.ProcessGroup | None = None) -> None:
        self.labels = labels
        self.group = group
        self.edits = Edits.none()
        self._proposed: list[Edits] = []
        self._transfers: list[_Transfer] = []

    def propose(self, index: Tensor, chosen: Tensor, logits: Tensor, epoch: int) -> None:
        """Make the labels positive at the end of the epoch; does not wait for the device.

        Args:
            index: [B] int64, rows of the label matrix.
            chosen: [B, C] bool, which of their labels.
            logits: [B, C], of which the probabilities are kept.
            epoch: counted from 0.
        """
        probability = torch.where(chosen, logits.detach().float().sigmoid(), _NOT_CHOSEN)
        done = None
        if probability.is_cuda:  # such copies go to page-locked memory
            index, probability = (tensor.to("cpu", non_blocking=True) for tensor in (index, probability))
            done = torch.cuda.Event()
            done.record()
        self._transfers.append(_Transfer(index, probability, epoch, done))
        while self._transfers and self._transfers[0].has_arrived():
            self._proposed.append(self._transfers.pop(0).edits())

    def commit(self) -> int:
        """Carry out what all processes, which call this together, have proposed; returns how many labels changed."""
        new = self._all_proposed()
        self._proposed = []
        self._apply(new)
        self.edits = Edits.joined([self.edits, new])
        return len(new.image)

    def state_dict(self) -> dict[str, Any]:
        """The edits, and what is proposed; the same on every process, which all call it."""
        return {"edits": self.edits._asdict(), "proposed": self._all_proposed()._asdict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Carry out the edits on labels that have none of them yet, and propose what was proposed."""
        self.edits = Edits(**state["edits"])
        self._apply(self.edits)
        # by the first process alone: the processes put their proposals together
        self._proposed = [Edits(**state["proposed"])] if is_first(self.group) else []

    def _all_proposed(self) -> Edits:
        """Of all processes, sorted, so that their number does not show."""
        self._proposed += [transfer.edits() for transfer in self._transfers]
        self._transfers = []
        own = Edits.joined([Edits.none(), *self._proposed])
        joined = Edits.joined(gather_values(own, self.group))
        entry, order = (joined.image * self.labels.shape[1] + joined.label).sort(stable=True)
        # an image is seen twice in an epoch that another number of processes goes on with
        first = entry.diff(prepend=entry.new_tensor([-1])) != 0
        return Edits(*(column[order][first] for column in joined))

    def _apply(self, edits: Edits) -> None:
        self.labels[edits.image.to(self.labels.device), edits.label.to(self.labels.device)] = 1
