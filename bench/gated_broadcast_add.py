"""pumlc.ops.gated_broadcast_add against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import providers
from bench.counts import OPERATORS, FeatureMapShape
from bench.timing import Report
from pumlc.ops import gated_broadcast_add, reference


def make_inputs(shape: FeatureMapShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """y [B, O, H, W], gate_scores [B, K, H, W], channels_last; u [B, O, K], scale [O] and shift [O] in float32"""
    vectors = (
        torch.randn(size, device=device, requires_grad=True)
        for size in ((shape.images, shape.channels, shape.heads), (shape.channels,), (shape.channels,))
    )
    u, scale, shift = vectors
    y, gate_scores = (shape.random(channels, dtype, device) for channels in (shape.channels, shape.heads))
    return y, u, gate_scores, scale, shift


def run(report: Report) -> None:
    op = "gated_broadcast_add"
    providers.run(
        report, providers.Benchmark(op, OPERATORS[op], gated_broadcast_add, reference.gated_broadcast_add, make_inputs)
    )
