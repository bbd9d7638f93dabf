"""pumlc.ops.semantic_attention against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

import torch
from torch import Tensor

from bench import providers
from bench.counts import OPERATORS, SemanticShape
from bench.timing import Report
from pumlc.ops import reference, semantic_attention


def make_inputs(shape: SemanticShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """features [B, P, D], words [C, D] and v [D]"""
    sizes = (
        (shape.images, shape.positions, shape.dimensions),
        (shape.classes, shape.dimensions),
        (shape.dimensions,),
    )
    features, words, v = (torch.randn(size, device=device) for size in sizes)
    v /= shape.dimensions**0.5
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (features, words, v))


def run(report: Report) -> None:
    op = "semantic_attention"
    providers.run(
        report, providers.Benchmark(op, OPERATORS[op], semantic_attention, reference.semantic_attention, make_inputs)
    )
