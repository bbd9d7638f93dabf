"""Training runs that are compared: which are trained, which rate is chosen, what the table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import ablation, methods, trials
from bench.bars import read_rows
from bench.table import ablation_table, methods_table, newest_comparison
from bench.trials import Row, compare, mean_and_deviation, undecided

# In place of train.py: val is best at a rate of 0.1, test is 50 + seed, a rate of 9 diverges and one of 7 fails.
PROGRAM = """
import json, pathlib, sys
words = sys.argv[1:]
calls = pathlib.Path(__file__).with_name("calls")
calls.write_text((calls.read_text() if calls.exists() else "") + " ".join(words) + "\\n")
if words[0] == "--resume":
    run, rate, seed = pathlib.Path(words[1]), 0.1, 0
else:
    value = lambda flag: words[words.index(flag) + 1]
    run, rate, seed = pathlib.Path(value("--out")), float(value("--lr")), int(value("--seed"))
if rate in (9, 7):
    sys.exit(1 if rate == 9 else 2)
run.mkdir(parents=True, exist_ok=True)
best = {"mAP": 80 - abs(rate - 0.1)}
end = {"event": "end", "best_on_val": best, "mAP": 50 + seed, "images_per_second": 100 + seed, "seconds": 7}
(run / "log.jsonl").write_text(json.dumps({"event": "start"}) + "\\n" + json.dumps(end) + "\\n")
"""


@pytest.fixture
def calls(tmp_path, monkeypatch) -> Path:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    monkeypatch.setattr(trials, "TRAIN", program)
    return tmp_path / "calls"


def test_the_rate_is_chosen_on_val_with_the_first_seed(calls, tmp_path):
    rows = [Row("a + b", ("--mixup", "1"))]
    (row,) = compare(rows, ["--epochs", "3"], tmp_path / "runs", [0.3, 0.1, 9], [0, 1, 4])
    assert (row["lr"], row["test_mAP"], row["val_mAP"]) == (0.1, [50, 51, 54], [80.0] * 3)
    assert row["val_mAP_of_rates"] == {"0.3": pytest.approx(79.8), "0.1": 80.0}
    assert len(calls.read_text().splitlines()) == 5
    assert "csv --epochs 3 --mixup 1 --lr 0.1 --seed 4 --out" in calls.read_text()


def test_runs_that_are_there_are_not_trained_again(calls, tmp_path):
    rows, runs = [Row("a", ())], tmp_path / "runs"
    begun = runs / "a-0.1-seed0"
    (begun / "checkpoints").mkdir(parents=True)
    (begun / "checkpoints" / "step-1.pt").touch()
    broken = runs / "a-0.1-seed1"
    broken.mkdir()
    (broken / "log.jsonl").write_text('{"event": "start"}\n')
    (row,) = compare(rows, [], runs, [0.1], [0, 1])
    first, second = calls.read_text().splitlines()
    assert first == f"--resume {begun}"
    assert second.startswith("csv --lr 0.1 --seed 1")
    assert list(compare(rows, [], runs, [0.1], [0, 1])) == [row]
    assert len(calls.read_text().splitlines()) == 2


def test_failures_are_not_hidden(calls, tmp_path):
    with pytest.raises(SystemExit, match="exit status 2"):
        list(compare([Row("a", ())], [], tmp_path / "runs", [7], [0, 1]))
    with pytest.raises(SystemExit, match="a diverges with every learning rate of 9"):
        list(compare([Row("a", ())], [], tmp_path / "runs", [9], [0, 1]))


def test_an_order_within_the_deviation_is_said():
    rows = [{"row": name, "test_mAP": values} for name, values in (("a", [70, 74]), ("b", [60, 62]), ("c", [71, 75]))]
    assert mean_and_deviation([70, 74]) == "72.0 ± 2.8"
    assert undecided(rows) == [
        "c against a: 1.0 points, less than the deviation of 2.8 between seeds, so their order is not decided."
    ]


def test_ablation_and_its_table(calls, tmp_path, capsys):
    out = tmp_path / "ablation.jsonl"
    words = [
        "--data",
        "there",
        "--rates",
        "0.1",
        "--seeds",
        "0",
        "2",
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(out),
    ]
    ablation.main(words)
    rows = read_rows(out)
    assert [row["row"] for row in rows] == [row.name for row in ablation.ROWS]
    assert rows[0]["flags"] == "--method an"
    older = [row | {"test_mAP": [1, 2]} for row in rows]
    header, _, *lines = ablation_table(newest_comparison(older + rows)).splitlines()
    assert "learning rate" in header
    assert lines[0] == "| assume negative, BCE | `--method an` | 0.1 | 51.0 ± 1.4 |"
    assert "so their order is not decided" in lines[-1]
    assert "PU loss: test mAP 51.0 ± 1.4, lr 0.1" in capsys.readouterr().out
    assert all(json.loads(line)["benchmark"] == "ablation" for line in out.read_text().splitlines())


def test_methods_and_their_table(calls, tmp_path, capsys):
    out = tmp_path / "methods.jsonl"
    words = ["--data", "there", "--rates", "0.1", "--seeds", "0", "2", "--runs", str(tmp_path / "runs")]
    words += ["--out", str(out), "--methods", "an", "splc"]
    methods.main([*words, "--labels", "single-positive"])
    methods.main([*words, methods.CEILING, "--labels", "0.3"])
    assert "splc, 0.3: test mAP 51.0 ± 1.4, 101 img/s, 7 s" in capsys.readouterr().out
    run = calls.read_text().splitlines()
    assert "--method splc --prob 0.3 --lr 0.1 --seed 2" in run[-1]
    assert sum("--single-positive" in line for line in run) == 4
    rows = read_rows(out)
    assert [(row["row"], row["labels"]) for row in rows] == [
        ("an, single-positive", "single-positive"),
        ("splc, single-positive", "single-positive"),
        (methods.CEILING, "all"),
        ("an, 0.3", "0.3"),
        ("splc, 0.3", "0.3"),
    ]
    rows[1]["test_mAP"] = [80, 82]
    header, _, ceiling, an, *others = methods_table(newest_comparison(rows)).splitlines()
    assert header.endswith("| single-positive, test mAP, % | 0.3, test mAP, % | img/s | seconds |")
    assert ceiling.endswith("| 51.0 ± 1.4 | 51.0 ± 1.4 | 101 | 7 |")
    assert an.startswith("| `an` | unknown is negative |")
    assert others[0].startswith("| `ignore` |")
    assert others[0].endswith("| not measured | not measured |  |  |")
    assert "- single-positive: splc is the best; no other is within a deviation of it." in others
    assert "- 0.3: an is the best; within a deviation of it, so that their order is not decided: splc." in others


def test_one_seed_has_no_deviation():
    with pytest.raises(SystemExit):
        ablation.main(["--data", "there", "--seeds", "1"])
