"""EPR and ROLE (arXiv 2106.09708): how many classes an image has is known, and for ROLE its labels are learned."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pumlc.errors import InputError
from pumlc.methods import LabelledImages, Method, Step
from pumlc.methods.sharing import for_averaging, gather
from pumlc.ops import elementwise_loss

TABLE_LR_FACTOR = 10.0
POSITIVE, UNOBSERVED = 0.995, 0.6
"""Probabilities with which the table begins: of a known positive, and the highest of an unobserved label."""


class EPR(Method):
    """Cross-entropy of the known labels, and expected positive regularisation.

    With p = sigmoid(z) [B, C]::

        loss = kind "ignore" of pumlc.ops.elementwise_loss + ((mean over images of the sum over classes of p - k) / C)^2

    The published code adds 1e-5 to what it takes the logarithm of, which bounds loss and gradient of a label that the
    network is sure to the contrary of; here they are exact. It takes no known negatives; here they cost -log(1 - p).

    Args:
        expected_positives: k, the number of classes that an image has on average.
        group: processes that share a batch, equally many images each: loss and gradient, which is averaged over them,
            are those of one process with the whole batch. None: of this process's images.
    """

    def __init__(self, expected_positives: float, group: dist.ProcessGroup | None = None) -> None:
        self.expected_positives = expected_positives
        self.group = group

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        all_logits, all_labels = gather(logits, self.group), gather(batch.labels, self.group)
        known = elementwise_loss(all_logits, all_labels, "ignore")
        count = self.count_penalty(all_logits)
        parts = {"known": known.detach(), "expected_positives": count.detach()}
        return Step(for_averaging(known + count, self.group), logits.detach(), parts)

    def count_penalty(self, logits: Tensor) -> Tensor:
        """logits [B, C] -> scalar, ((positives per image, as the logits have them, - k) / C)^2."""
        positives = _at_least_float32(logits).sigmoid().sum(1).mean()
        return ((positives - self.expected_positives) / logits.shape[1]) ** 2


class ROLE(EPR):
    """Regularised online label estimation: the network and a table of labels teach each other.

    With the logits z [B, C] of the network, those t [B, C] of the table's rows of the batch, and the loss E of
    :class:`EPR`::

        loss = (E(z) + H(z, sigmoid(t)) + E(t) + H(t, sigmoid(z))) / 2
        H(a, q) = mean of -q log sigmoid(a) - (1 - q) log(1 - sigmoid(a)), q constant

    The table begins as published: unobserved labels uniform in logits, with probabilities between 0.4 and 0.6, known
    ones at 0.995 and 0.005. It trains with 10 times the learning rate and no weight decay, and is no part of the model:
    clipping of the gradient and the moving average leave it alone. Departures from the published code as in
    :class:`EPR`.

    Each process holds the whole table and computes its gradient from the images of all of them, so that all hold the
    same without an exchange of it. The gradient is dense, for Adam moves every row in every step, as published: with
    the table and the two moments of Adam it is 16 N C bytes on the device (COCO, 82,783 images and 80 classes: 106 MB),
    of which each step reads or writes about 32 N C.

    Args:
        labels: [N, C] int8 on the device of the batches: 1 positive, 0 unobserved, -1 known negative.
        expected_positives, group: as in :class:`EPR`.
        seed: of the table's random numbers, which are drawn on the host.
    """

    def __init__(
        self, labels: Tensor, expected_positives: float, seed: int = 0, group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__(expected_positives, group)
        self.table = nn.Parameter(initial_table(labels, seed))  # [N, C] float32, logits

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        seen, labels, index = (gather(tensor, self.group) for tensor in (logits, batch.labels, batch.index))
        estimated = self.table[index]
        network, table = self._taught(seen, estimated, labels), self._taught(estimated, seen, labels)
        parts = {"network": network.detach(), "table": table.detach()}
        # the gradient of the table, which is that of all images already, is averaged over nothing
        return Step((for_averaging(network, self.group) + table) / 2, logits.detach(), parts)

    def _taught(self, logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """What the network or the table costs; logits and those of the other one, held constant: [B, C]."""
        targets = _at_least_float32(teacher.detach()).sigmoid()
        agreement = binary_cross_entropy_with_logits(_at_least_float32(logits), targets)
        return elementwise_loss(logits, labels, "ignore") + agreement + self.count_penalty(logits)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.table], "lr_factor": TABLE_LR_FACTOR, "weight_decay": 0.0}]

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """The positive labels per image that the table holds, to be compared with those expected."""
        with torch.no_grad():
            return {"estimated_positives": round(float(self.table.sigmoid().sum(1).mean()), 3)}

    def state_dict(self) -> dict[str, Any]:
        return {"table": self.table.detach()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises InputError for a table of another shape."""
        found, wanted = state["table"].shape, self.table.shape
        if found != wanted:
            raise InputError(
                f"The checkpoint holds estimated labels of {found[0]} images and {found[1]} classes, the data has "
                f"{wanted[0]} and {wanted[1]}. Resume with the data that the run began with."
            )
        with torch.no_grad():
            self.table.copy_(state["table"])


def initial_table(labels: Tensor, seed: int) -> Tensor:
    """labels [N, C] int8 -> logits [N, C] float32 on their device; the same on every device and process."""
    positive, highest = torch.tensor([POSITIVE, UNOBSERVED], dtype=torch.float64).logit().tolist()
    random = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed))
    table = (highest * (2 * random - 1)).to(labels.device)
    return torch.where(labels == 0, table, positive * labels)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
