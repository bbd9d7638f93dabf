"""pumlc.ops.attention_pool against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import providers
from bench.counts import OPERATORS, FeatureMapShape
from bench.timing import Report
from pumlc.ops import attention_pool, reference


def make_inputs(shape: FeatureMapShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """x [B, C, H, W] and scores [B, K, H, W], channels_last as convolutions give them"""
    return shape.random(shape.channels, dtype, device), shape.random(shape.heads, dtype, device)


def run(report: Report) -> None:
    op = "attention_pool"
    providers.run(report, providers.Benchmark(op, OPERATORS[op], attention_pool, reference.attention_pool, make_inputs))
