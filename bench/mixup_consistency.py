"""pumlc.ops.mixup_consistency against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import providers, pu_loss
from bench.counts import OPERATORS, PuLossShape
from bench.timing import Report
from pumlc.ops import mixup_consistency, reference


def make_inputs(shape: PuLossShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """logits [B, C], labels [B, C] int8, mixed_logits [h, C], a random permutation [h], and a share [] of 0.3"""
    logits, labels = pu_loss.make_inputs(shape, dtype, device)
    half = (shape.rows + 1) // 2
    mixed_logits, _ = pu_loss.make_inputs(shape._replace(rows=half), dtype, device)
    return logits, labels, mixed_logits, torch.randperm(half, device=device), torch.tensor(0.3, device=device)


def run(report: Report) -> None:
    op = "mixup_consistency"
    providers.run(
        report, providers.Benchmark(op, OPERATORS[op], mixup_consistency, reference.mixup_consistency, make_inputs)
    )
