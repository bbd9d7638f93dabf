"""README's tables are what the results files and the bars say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import table
from bench.bars import Bar
from bench.table import accuracy_table, data_table, markdown, predict_table, published_step_table, speed_table

OP = {
    "device": "Some CPU, avx2, 2 threads",
    "torch": "2.14",
    "cuda": None,
    "op": "pu_loss",
    "shape": "8x5",
    "dtype": "float32",
    "passes": "forward",
    "provider": "pumlc",
    "microseconds": 12.3,
    "times_eager": 4.56,
    "times_compiled": 2.0,
}
DATA = {
    "device": "Some CPU, avx2, 2 threads",
    "benchmark": "data",
    "files": "photos",
    "images_per_second": {"TrainLoader": 400.2, "torchvision, as published": 100.1},
    "ratio": 4.0,
}
RUN = {
    "run": "scenes",
    "images": 1400,
    "classes": 5,
    "single_positive": False,
    "prob": 0.3,
    "backbone": "resnet18",
    "image_size": 112,
    "epochs": 20,
    "mAP": 76.13,
    "CF1": 68.2,
    "OF1": 66.9,
    "precision": "bf16",
    "seconds": 331.29,
}


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_speed_table_says_whether_the_bar_is_met():
    bars = [
        Bar(("cpu",), {"op": "pu_loss", "shape": "8x5"}, "times_eager", "a reason", at_least=5),
        Bar(("cpu",), {"op": "pu_loss", "shape": "8x5"}, "microseconds", "a reason", at_most=20),
    ]
    rows = [OP, OP | {"shape": "9x5"}, OP | {"provider": "eager"}, DATA]
    header, _, judged, without, gpu = cells(speed_table(rows, bars))
    assert header[-1] == "bar"
    assert judged == [
        "Some CPU, avx2, 2 threads, torch 2.14",
        "`pu_loss` 8x5 float32",
        *("forward", "12", "4.6", "2.0", "≥ 5 x eager: missed, ≤ 20.0 us: met"),
    ]
    assert without[-1] == ""
    assert gpu[0] == "a GPU"
    assert "not measured" in gpu


def test_a_measured_gpu_takes_the_place_of_the_one_that_is_missing():
    assert "not measured" not in speed_table([OP, OP | {"device": "NVIDIA H200", "cuda": "13.0"}], [])


def test_predict_table():
    row = {
        "benchmark": "predict",
        "device": "a CPU",
        "backbone": "resnet50",
        "image_size": 224,
        "precision": "bf16",
        "files": "photographs",
        "images_per_second": {"predict": 76.7, "evaluation": 80.2},
        "evaluation_share": 0.953,
    }
    _, _, line = cells(predict_table([OP, row], []))
    assert line == ["a CPU", "resnet50 at 224, bf16, photographs", "77", "80", "0.95", ""]


def test_data_table():
    bar = Bar(("cpu",), {"benchmark": "data"}, "ratio", "a reason", at_least=3)
    _, _, line = cells(data_table([OP, DATA], [bar]))
    assert line[1:] == ["photos", "400", "100", "4.0", "≥ 3 x torchvision: met"]


def test_accuracy_table_has_minutes():
    header, _, dropped, single = cells(accuracy_table([RUN, RUN | {"single_positive": True}]))
    assert (header[-1], dropped[-1]) == ("minutes", "5.5")
    assert dropped[1] == "30%"
    assert single[1] == "one positive per image"


def test_markdown():
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_readme_is_up_to_date(monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    before = table.README.read_text()
    readme.write_text(before)
    monkeypatch.setattr(table, "README", readme)
    table.main()
    assert readme.read_text() == before, "run: python -m bench.table"


def test_a_readme_without_a_place_for_a_table(monkeypatch, tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- speed -->\nold\n<!-- end of speed -->\n")
    monkeypatch.setattr(table, "README", readme)
    with pytest.raises(SystemExit, match="0 places for the data table"):
        table.main()


def test_published_step_table():
    row = {
        "device": "Some CPU, avx512, 2 threads",
        "benchmark": "published_step",
        "part": "head",
        "backbone": "resnet101",
        "image_size": 448,
        "batch_size": 16,
        "precision": "fp32",
        "milliseconds": {"published": 2950.4, "pumlc fp32": 709.0},
        "times_published": 4.161,
        "memory_share": 0.1349,
    }
    bar = Bar(("cpu",), {"benchmark": "published_step", "part": "head"}, "times_published", "a reason", at_least=6)
    _, _, line = cells(published_step_table([OP, row], [bar]))
    assert line[1:] == [
        "head, resnet101 at 448, batch 16",
        *("fp32", "2950", "709", "4.16", "0.13", "≥ 6 x the published step: missed"),
    ]
