"""Logits to calibrated logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Calibration(nn.Module):
    """A temperature and a bias per class: logits z [B, C] -> z / temperature + bias, whose sigmoid is a probability.

    Losses of incomplete labels have no natural scale of probability; this one is fitted afterwards, on images with
    known labels (Platt scaling, per class: Platt 1999; Guo et al. 2017, arXiv 1706.04599, for the temperature). The
    order of the images within a class stays what it is.

    Args:
        temperature: [C], above 0.
        bias: [C].
    """

    def __init__(self, temperature: Tensor, bias: Tensor) -> None:
        super().__init__()
        if temperature.shape != bias.shape or temperature.ndim != 1:
            raise ValueError(
                f"temperature and bias: got shapes {list(temperature.shape)} and {list(bias.shape)}, wanted [C] twice"
            )
        if not (temperature > 0).all():
            raise ValueError(f"temperature: got {float(temperature.min())}, wanted numbers above 0")
        self.register_buffer("temperature", temperature.float())
        self.register_buffer("bias", bias.float())

    @classmethod
    def identity(cls, classes: int) -> Calibration:
        """The one that changes nothing."""
        return cls(torch.ones(classes), torch.zeros(classes))

    def forward(self, logits: Tensor) -> Tensor:
        """logits [B, C] -> [B, C]."""
        return logits / self.temperature + self.bias

    def probability(self, logits: Tensor) -> Tensor:
        """logits [B, C] -> [B, C] float64: in float32, whatever is calibrated to more than 17 would be 1 alike."""
        return self(logits).double().sigmoid()
