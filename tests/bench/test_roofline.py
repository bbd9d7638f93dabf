"""Counts and floors against numbers worked out by hand, and the benchmark's bytes against the counts."""

from __future__ import annotations

import pytest
import torch

from bench import counts, providers, pu_loss, roofline
from bench.counts import FORWARD, FORWARD_AND_BACKWARD, OPERATORS, PASSES, FeatureMapShape, Operator, PuLossShape
from bench.counts import pu_loss as count
from bench.roofline import LAUNCH_MICROSECONDS, MACHINES, Machine, floor, table
from bench.timing import Report, Timing

LARGE = PuLossShape(1024, 9605, 8.0)  # 9,835,520 elements, 8,192 positives


@pytest.mark.parametrize(
    ("shape", "number_bytes", "passes", "expected"),
    [
        # 20,480 elements: 4 + 1 bytes read of each, 4 more written for the gradient, and 4 for the loss
        (PuLossShape(256, 80, 2.9), 4, FORWARD, 102_404),
        (PuLossShape(256, 80, 2.9), 4, FORWARD_AND_BACKWARD, 184_324),
        (LARGE, 4, FORWARD_AND_BACKWARD, 88_519_684),  # 9 bytes
        (LARGE, 2, FORWARD, 29_506_564),  # 3 bytes
        (LARGE, 2, FORWARD_AND_BACKWARD, 49_177_604),  # 5 bytes
    ],
)
def test_bytes_of_pu_loss(shape, number_bytes, passes, expected):
    assert count(shape, number_bytes, passes).bytes == expected


def test_operations_of_pu_loss():
    forward, both = (count(LARGE, 2, passes) for passes in PASSES)
    assert forward.specials == both.specials == 19_679_232  # two per element, one per positive
    assert forward.fmas == 68_865_024  # seven per element, two per positive
    assert both.fmas == 88_536_064  # two more per element
    assert forward.launches == both.launches == 1


def test_counts_of_mixup():
    """7 rows of 10 classes: 70 elements, 40 of pairs."""
    forward, both = (counts.mixup_consistency(PuLossShape(7, 10, 1.0), 2, passes) for passes in PASSES)
    assert (forward.bytes, both.bytes) == (70 * 3 + 40 * 2 + 4, 70 * 5 + 40 * 4 + 4)
    assert (forward.fmas, both.fmas) == (40 * 26, 40 * 36)
    assert forward.specials == both.specials == 40 * 10


@pytest.mark.parametrize(("kind", "fmas", "specials"), [("an", (3, 5), (2, 3)), ("asl", (7, 14), (5, 7))])
def test_counts_of_elementwise_losses(kind, fmas, specials):
    """7 rows of 10 classes: 70 elements."""
    forward, both = (counts.elementwise_loss(counts.LossShape(7, 10, 1.0, kind), 2, passes) for passes in PASSES)
    assert (forward.bytes, both.bytes) == (70 * 3 + 4, 70 * 5 + 4)
    assert (forward.fmas, both.fmas) == (70 * fmas[0], 70 * fmas[1])
    assert (forward.specials, both.specials) == (70 * specials[0], 70 * specials[1])


def test_counts_of_large_loss():
    """7 rows of 10 classes: 70 entries."""
    forward, both = (counts.large_loss(PuLossShape(7, 10, 1.0), 2, passes) for passes in PASSES)
    assert (forward.bytes, both.bytes) == (70 * 4 + 4, 70 * 6 + 4)
    assert (forward.fmas, both.fmas) == (70 * 5, 70 * 6)
    assert forward.specials == both.specials == 70 * 3
    assert (forward.launches, counts.large_loss(LARGE, 2, FORWARD).launches) == (1, 2)


def test_counts_of_semantic_attention():
    """30 rows of 7, 4 words: 210 features, 28 + 7 parameters, 120 scores, 840 products."""
    shape = counts.SemanticShape(2, 15, 4, 7)
    forward, both = (counts.semantic_attention(shape, 2, passes) for passes in PASSES)
    assert (forward.bytes, both.bytes) == (2 * (210 + 35 + 120), 2 * (630 + 105 + 240))
    assert (forward.fmas, both.fmas) == (2 * 840, 8 * 840)
    assert (forward.specials, both.specials) == (840, 1680)


STAGE = FeatureMapShape(2, 10, 3, 5, heads=4)  # 30 positions, 300 elements, 120 scores, 80 means


@pytest.mark.parametrize(
    ("counts", "passes", "moved", "fmas", "specials"),
    [
        (counts.attention_pool, FORWARD, 4 * (300 + 120 + 80), 4 * 300 + 3 * 120, 120),
        (counts.attention_pool, FORWARD_AND_BACKWARD, 4 * (900 + 360 + 160), 12 * 300 + 7 * 120, 240),
        (counts.gated_broadcast_add, FORWARD, 4 * (600 + 120), 5 * 300 + 2 * 120, 240),
        (counts.gated_broadcast_add, FORWARD_AND_BACKWARD, 4 * (900 + 360), 14 * 300 + 6 * 120, 480),
    ],
)
def test_counts_of_feature_maps(counts, passes, moved, fmas, specials):
    result = counts(STAGE, 4, passes)
    assert (result.bytes, result.fmas, result.specials) == (moved, fmas, specials)


def test_floors_of_the_large_batch():
    """At 4.3 TB/s and 60 TFLOP/s, in microseconds."""
    machine = Machine("by hand", 4.3e12, 60e12)
    assert machine.special_rate == 3.75e12  # 16 for 128 multiply-adds
    fp32, bf16 = (floor(count(LARGE, size, FORWARD_AND_BACKWARD), machine) for size in (4, 2))
    assert (round(1e6 * fp32.memory, 1), round(1e6 * bf16.memory, 1)) == (20.6, 11.4)
    assert round(1e6 * bf16.fma, 2) == 2.95  # 177 M operations
    assert round(1e6 * bf16.special, 2) == 5.25
    assert (bf16.seconds, bf16.bound) == (bf16.memory, "memory")


def test_a_small_batch_is_bound_by_the_launch():
    limit = floor(count(PuLossShape(256, 80, 2.9), 4, FORWARD_AND_BACKWARD), MACHINES["H200"])
    assert (limit.bound, limit.seconds) == ("launch", LAUNCH_MICROSECONDS * 1e-6)


@pytest.mark.parametrize(
    ("machine", "multiprocessors", "gigahertz"), [("H100", 132, 1.98), ("A100", 108, 1.41), ("RTX 3090", 82, 1.695)]
)
def test_special_functions_follow_from_the_clock(machine, multiprocessors, gigahertz):
    assert MACHINES[machine].special_rate == pytest.approx(16 * multiprocessors * gigahertz * 1e9, rel=0.01)


def test_table_has_every_shape_dtype_and_pass(capsys):
    roofline.main(["--machine", "A100"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("# A100: 2039 GB/s, 19.5 TFLOP/s fp32, 2.44 T special functions/s")
    assert len(lines) == 2 + sum(4 * len(operator.shapes) for operator in OPERATORS.values())
    assert table(MACHINES["H200"]) != table(MACHINES["H100"])


def test_another_machine(capsys):
    roofline.main(["--bandwidth", "4300", "--tflops", "60"])
    row = next(
        line for line in capsys.readouterr().out.splitlines() if "1024x9605     bfloat16  forward+backward" in line
    )
    assert row.split()[-2:] == ["11.44", "memory"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bandwidth", "900"], "--bandwidth and --tflops belong together"),
        (["--bandwidth", "900", "--tflops", "9", "--machine", "A100"], "--machine has a bandwidth of its own"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message, capsys):
    with pytest.raises(SystemExit):
        roofline.main(arguments)
    assert message in capsys.readouterr().err


def test_the_benchmark_reports_the_bytes_that_are_counted(monkeypatch):
    shape = PuLossShape(8, 5, 2.0)
    monkeypatch.setattr(pu_loss, "OPERATOR", Operator((shape,), count))
    monkeypatch.setattr(providers, "copy_bandwidth", lambda device: 1000.0)
    monkeypatch.setattr(providers, "time_in_turn", lambda functions: dict.fromkeys(functions, Timing(1.0, 0.0)))
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    report = Report(torch.device("cpu"))
    pu_loss.run(report)
    assert len(report.rows) == 6  # three providers, two passes
    for row in report.rows:
        assert (row.shape, row.dtype) == ("8x5", "float32")
        assert row.gigabytes_per_second == pytest.approx(count(shape, 4, row.passes).bytes / 1e9)
        assert row.share_of_copy == pytest.approx(count(shape, 4, row.passes).bytes / 1000)


def test_inputs_leave_the_cache_of_a_gpu():
    assert providers.copies_to_leave_the_cache(19_671_040) == 7  # 7 x 19.7 MB > 128 MB
    assert providers.copies_to_leave_the_cache(14_000) == providers.MOST_COPIES
