"""PU-MLC (arXiv 2306.16016): positives against everything, no label trusted to be negative."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc.methods import LabelledImages, Step
from pumlc.nn import PULoss
from pumlc.ops import pu_statistics

LINES_SHOWN = 8


class PUMLC:
    """The variational PU loss of the batch.

    Args:
        alpha, gamma, min_temperature, group: as in :func:`pumlc.ops.pu_loss`.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        gamma: float = 0.55,
        min_temperature: float = 1e-2,
        group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        self.loss = PULoss(alpha=alpha, gamma=gamma, min_temperature=min_temperature, group=group)

    def __call__(self, model: nn.Module, batch: LabelledImages, epoch: int) -> Step:
        logits = model(batch.images)
        return Step(self.loss(logits, batch.labels), logits.detach())

    def explain(self, logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> str:
        bad_rows = (~torch.isfinite(logits)).any(1)
        lines = [f"  logits of {int(bad_rows.sum())} of {len(logits)} images are not finite"]
        statistics = pu_statistics(
            logits, labels, self.loss.alpha, self.loss.gamma, min_temperature=self.loss.min_temperature
        )
        table = torch.stack([column.double().cpu() for column in statistics], 1)  # [C, 5]
        off = (~torch.isfinite(table)).any(1).nonzero().flatten().tolist()
        for c in off[:LINES_SHOWN]:
            values = ", ".join(f"{name} {table[c, i]:.4g}" for i, name in enumerate(statistics._fields))
            lines.append(f"  {class_names[c]}: {values}")
        if len(off) > LINES_SHOWN:
            lines.append(f"  and {len(off) - LINES_SHOWN} more of {len(class_names)} classes")
        return "\n".join(lines)
