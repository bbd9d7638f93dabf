"""pumlc.ops.pu_loss against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

import torch

from bench import providers
from bench.counts import OPERATORS, PuLossShape
from bench.timing import Report
from pumlc.ops import pu_loss, reference

OPERATOR = OPERATORS["pu_loss"]


def make_inputs(shape: PuLossShape, dtype: torch.dtype, device: torch.device | str):
    """logits [B, C] and labels [B, C] int8 as in training: most logits negative, few positives."""
    size = (shape.rows, shape.classes)
    logits = (torch.randn(size, device=device) * 2 - 2).to(dtype)
    labels = (torch.rand(size, device=device) < shape.positives / shape.classes).to(torch.int8)
    return logits.requires_grad_(), labels


def run(report: Report) -> None:
    providers.run(report, providers.Benchmark("pu_loss", OPERATOR, pu_loss, reference.pu_loss, make_inputs))
