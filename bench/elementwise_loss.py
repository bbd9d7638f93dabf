"""pumlc.ops.elementwise_loss against its eager reference and torch.compile of it, forward and forward + backward."""

from __future__ import annotations

from functools import partial

from bench import providers, pu_loss
from bench.counts import LOSS_OPERATIONS, OPERATORS
from bench.timing import Report
from pumlc.ops import elementwise_loss, reference_losses


def run(report: Report) -> None:
    op = "elementwise_loss"
    for kind in LOSS_OPERATIONS:
        shapes = tuple(shape for shape in OPERATORS[op].shapes if shape.kind == kind)
        functions = (partial(function, kind=kind) for function in (elementwise_loss, reference_losses.elementwise_loss))
        operator = OPERATORS[op]._replace(shapes=shapes)
        providers.run(report, providers.Benchmark(op, operator, *functions, pu_loss.make_inputs))
