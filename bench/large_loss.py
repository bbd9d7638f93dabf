"""pumlc.ops.large_loss against its eager reference and torch.compile of it, forward and forward + backward.

Large are 1 % of the losses, as in the middle of a run of LL-R or LL-Ct; the loss is timed, the mask made with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from bench import providers, pu_loss
from bench.counts import OPERATORS
from bench.timing import Report
from pumlc.ops import large_loss, reference

LARGE_SHARE = 0.01


def corrected_loss(function: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits [B, C], labels [B, C] int8) -> the loss alone."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return function(logits, labels, math.ceil(LARGE_SHARE * logits.numel()), "correct")[0]

    return loss


def run(report: Report) -> None:
    op = "large_loss"
    ours, plain = corrected_loss(large_loss), corrected_loss(reference.large_loss)
    providers.run(report, providers.Benchmark(op, OPERATORS[op], ours, plain, pu_loss.make_inputs))
