"""Bars are read, matched with rows and judged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench import bars
from bench.bars import BARS, KIND, Bar, load, machine_class, measured, missed, newest, table
from bench.counts import DTYPE_BYTES, OPERATORS, PASSES

CPU, GPU = "Some CPU, avx2, 2 threads", "NVIDIA H200"
SPEED = Bar(("cpu", "H200"), {"op": "pu_loss", "shape": "8x5"}, "times_eager", "a reason", at_least=5)
TIME = Bar(("H200",), {"op": "pu_loss", "shape": "8x5"}, "microseconds", "a reason", at_most=5)


def row(**fields) -> dict:
    return {
        "device": CPU,
        "op": "pu_loss",
        "shape": "8x5",
        "provider": "pumlc",
        "times_eager": 5.0,
        "microseconds": 9.0,
        **fields,
    }


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (CPU, "cpu"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA L4", None),
    ],
)
def test_machine_class(device, expected):
    assert machine_class(device) == expected


def test_a_bar_is_for_its_rows_alone():
    assert SPEED.is_for(row())
    for other in ({"shape": "8x6"}, {"provider": "eager"}, {"device": "NVIDIA L4"}, {"times_eager": None}):
        assert not SPEED.is_for(row(**other))
    assert not TIME.is_for(row())
    assert TIME.is_for(row(device=GPU))


@pytest.mark.parametrize(("value", "met"), [(4.99, False), (5.0, True), (5.01, True)])
def test_at_least(value, met):
    assert SPEED.is_met(row(times_eager=value)) == met
    assert SPEED.verdict(row(times_eager=value)) == ("met" if met else "missed")


@pytest.mark.parametrize(("value", "met"), [(4.99, True), (5.0, True), (5.01, False)])
def test_at_most(value, met):
    assert TIME.is_met(row(device=GPU, microseconds=value)) == met


def test_missed():
    assert missed([row(), row(device=GPU)], [SPEED, TIME]) == [TIME]
    assert missed([row()], [SPEED, TIME]) == []


def test_the_newest_row_of_a_kind_counts():
    rows = [row(times_eager=1.0), row(device=GPU), row(times_eager=7.0), row(provider="eager", times_eager=1.0)]
    assert newest(rows) == [rows[2], rows[1], rows[3]]


def test_table():
    lines = table([row(times_eager=4.5), row(device=GPU, microseconds=3.2)], [SPEED, TIME]).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["pu_loss 8x5"] * 3
    assert lines[1].endswith("4.5 x eager  missed")
    assert CPU in lines[1]
    assert GPU in lines[2]
    assert lines[3].endswith("3.2 us       met")
    (_, only) = table([], [SPEED, TIME], ["cpu"]).splitlines()
    assert only.endswith("not measured")


def test_files_are_read(tmp_path, capsys):
    path = tmp_path / "some.jsonl"
    rows = [row(), {"run": "without a device"}, row(times_eager=6.0)]
    path.write_text("".join(json.dumps(it) + "\n" for it in rows))
    assert measured([path]) == [rows[2]]
    bars.main([str(path)])
    assert "not measured" in capsys.readouterr().out


def test_every_bar_can_be_measured():
    kinds = set()
    for bar in load():
        assert set(bar.row) <= set(KIND)
        assert bar.why
        if "op" in bar.row:
            shapes = [str(shape) for shape in OPERATORS[bar.row["op"]].shapes]
            assert bar.row.get("shape", shapes[0]) in shapes  # without one, the bar is for all of them
            assert bar.row["dtype"] in DTYPE_BYTES
            assert bar.row["passes"] in PASSES
        kinds |= {(machine, bar.metric, *bar.row.values()) for machine in bar.machines}
    assert len(kinds) == sum(len(bar.machines) for bar in load())  # none stands there twice


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ('metric = "speed"', ValueError),
        ("at_most = 3", ValueError),  # beside at_least
        ('machines = ["abacus"]', ValueError),
        ('wyh = "a slip"', TypeError),
    ],
)
def test_an_entry_that_is_no_bar(tmp_path, change, error):
    entry = {
        "machines": '["cpu"]',
        "row": '{ op = "pu_loss" }',
        "metric": '"times_eager"',
        "at_least": "2",
        "why": '""',
    }
    name, value = change.split(" = ")
    path = tmp_path / "bars.toml"
    path.write_text("[[bar]]\n" + "".join(f"{key} = {text}\n" for key, text in (entry | {name: value}).items()))
    with pytest.raises(error):
        load(path)


def test_python_3_10_has_no_tomllib():
    program = "import sys; sys.modules['tomllib'] = None\nfrom bench import bars; print(len(bars.load()))"
    run = subprocess.run([sys.executable, "-c", program], cwd=BARS.parents[1], capture_output=True, text=True)
    assert run.stdout.split() == [str(len(load()))], run.stderr
