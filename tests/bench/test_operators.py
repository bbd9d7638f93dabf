"""The benchmarks of the operators run, at small shapes: their proofs of equality hold, and their rows are whole."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from bench import (
    attention_pool,
    depthwise,
    elementwise_loss,
    gated_broadcast_add,
    large_loss,
    local_global,
    mixup_consistency,
    providers,
    pu_loss,
    semantic_attention,
)
from bench.counts import OPERATORS, DepthwiseShape, FeatureMapShape, LossShape, Operator, PuLossShape, SemanticShape
from bench.timing import Report, time_in_turn

CPU = torch.device("cpu")
SMALL = {
    "pu_loss": (pu_loss, PuLossShape(9, 5, 1.0)),
    "mixup_consistency": (mixup_consistency, PuLossShape(9, 5, 1.0)),
    "elementwise_loss": (elementwise_loss, LossShape(9, 5, 1.0, "asl")),
    "large_loss": (large_loss, PuLossShape(9, 5, 1.0)),
    "attention_pool": (attention_pool, FeatureMapShape(2, 16, 5, 4)),
    "gated_broadcast_add": (gated_broadcast_add, FeatureMapShape(2, 16, 5, 4)),
    "depthwise_conv2d": (depthwise, DepthwiseShape(2, 16, 7, 5, 2)),
    "semantic_attention": (semantic_attention, SemanticShape(2, 6, 5, 20)),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(depthwise, "keep_freed_memory", lambda: None)  # this process goes on to other tests
    for module in (providers, depthwise):
        monkeypatch.setattr(module, "time_in_turn", partial(time_in_turn, rounds=2, seconds=1e-4))
        monkeypatch.setattr(module, "copy_bandwidth", lambda _: 1e10)


@pytest.mark.parametrize("op", SMALL)
def test_operator(op, monkeypatch, capsys):
    module, shape = SMALL[op]
    small = Operator((shape,), OPERATORS[op].count)
    monkeypatch.setitem(OPERATORS, op, small)
    if hasattr(module, "OPERATOR"):
        monkeypatch.setattr(module, "OPERATOR", small)
    report = Report(CPU)
    module.run(report)
    assert {row.passes for row in report.rows} == {"forward", "forward+backward"}
    assert {"pumlc", "compile"} <= {row.provider for row in report.rows}
    for row in report.rows:
        assert row.op == op
        assert row.microseconds > 0
        assert row.times_eager > 0
    assert op in capsys.readouterr().out


def test_local_global(monkeypatch, capsys):
    monkeypatch.setattr(local_global, "time_in_turn", partial(time_in_turn, seconds=1e-4))
    shapes = (local_global.Shape(16, 6), local_global.Shape(16, 5, kernel=3, stride=2, depthwise=True))
    local_global.run(CPU, save=False, shapes=shapes, rounds=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].startswith("16@6x6 3x3 ")
    assert lines[-2].startswith("16@5x5 depthwise 3x3 stride 2 ")
    assert lines[-1].startswith("median ")
