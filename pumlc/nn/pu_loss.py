"""The PU loss as a module."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pumlc.ops import pu_loss


class PULoss(nn.Module):
    """:func:`pumlc.ops.pu_loss` with its constants held.

    Args:
        alpha: temperature per standard deviation of a class's logits (COCO 1.0, VOC 2.0).
        gamma: exponent of the re-balance factor (COCO 0.55, VOC 0.85).
        min_temperature: lower bound of the temperature.
        group: process group whose ranks share one batch; None for the statistics of this process alone.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        gamma: float = 0.55,
        *,
        min_temperature: float = 1e-2,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma
        self.min_temperature = min_temperature
        self.group = group

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits [B, C], labels [B, C] -> scalar. Computed outside autocast, in the dtype of the logits."""
        with torch.autocast(logits.device.type, enabled=False):
            return pu_loss(
                logits, labels, self.alpha, self.gamma, min_temperature=self.min_temperature, group=self.group
            )

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, gamma={self.gamma}, min_temperature={self.min_temperature}"
