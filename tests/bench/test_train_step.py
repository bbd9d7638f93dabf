"""The training step is measured as it is, from a cached batch and from files."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import pytest
import torch

from bench import bars, train_step
from bench.bars import read_rows
from bench.table import README
from bench.train_step import CLASSES, POSITIVES, RECIPE, first_that_fits, time_steps, write_table
from pumlc.errors import MissingPackageError

CPU = torch.device("cpu")
SMALL = ["--device", "cpu", "--backbone", "test_resnet", "--image-size", "32", "--batch-size", "4"]
SMALL += ["--steps", "1", "--samples", "2"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(train_step, "WARM_UP", 1)


def test_measures_and_keeps_both_inputs(tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    assert train_step.main([*SMALL, "--out", str(out)]) == 0
    rows = read_rows(out)
    assert [row["input"] for row in rows] == ["cached", "files"]
    for row in rows:
        assert (row["benchmark"], row["backbone"], row["image_size"]) == ("train_step", "test_resnet", 32)
        assert (row["batch_size"], row["train_all"]) == (4, True)
        assert row["images_per_second"] > 0
    output = capsys.readouterr().out
    assert "test_resnet, 32 px, all layers, batches of 4" in output
    assert output.count("img/s") == 2


def test_frozen_and_not_saved(monkeypatch, capsys):
    monkeypatch.setattr(train_step, "append_rows", lambda *arguments: pytest.fail("saved"))
    monkeypatch.setattr(train_step, "from_files", lambda trainer: iter([train_step.random_batch(trainer)] * 3))
    assert train_step.main([*SMALL, "--frozen", "--no-save"]) == 0
    assert "last stage, batches of 4" in capsys.readouterr().out


def test_files_are_skipped_without_a_decoder(monkeypatch, tmp_path, capsys):
    def no_decoder(trainer):
        raise MissingPackageError("This needs the package nvidia-dali-cuda130.")
        yield

    monkeypatch.setattr(train_step, "from_files", no_decoder)
    out = tmp_path / "results.jsonl"
    assert train_step.main([*SMALL, "--out", str(out)]) == 0
    assert [row["input"] for row in read_rows(out)] == ["cached"]
    assert "files: skipped. This needs the package nvidia-dali-cuda130" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line():
    with pytest.raises(SystemExit, match="error: --device cuda cannot be used"):
        train_step.main(["--device", "cuda"])


def test_the_first_batch_that_fits():
    tried = []

    def attempt(size: int) -> int:
        tried.append(size)
        if size > 40:
            raise torch.OutOfMemoryError
        return size

    assert first_that_fits((256, 64, 35, 8), attempt) == 35
    assert tried == [256, 64, 35]
    with pytest.raises(torch.OutOfMemoryError):
        first_that_fits((256, 64), attempt)


def test_time_of_a_step(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(train_step.time, "perf_counter", lambda: next(clock))
    calls = []
    timing = time_steps(lambda: calls.append(1), device=CPU, steps=4, samples=3)
    assert timing.median == 0.25  # one tick from the beginning of a sample of four steps to its end
    assert len(calls) == 1 + 4 * 3


def test_labels_are_as_frequent_as_in_coco(tmp_path):
    write_table(tmp_path, [Path(__file__)], 200)
    with (tmp_path / "labels.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert (len(header), len(rows)) == (2 + CLASSES, 200)
    shown = [cell for row in rows for cell in row[2:]].count("1") / 200
    assert shown == pytest.approx(POSITIVES, rel=0.1)
    assert (tmp_path / rows[-1][0]).resolve() == Path(__file__).resolve()


def test_the_bars_are_for_what_is_measured_by_default():
    options = train_step.parse([])
    rows = [bar.row for bar in bars.load() if bar.row.get("benchmark") == "train_step"]
    wanted = [row for row in rows if row.get("recipe") != "full"]
    assert wanted
    for row in wanted:
        assert (row["backbone"], row["image_size"]) == (options.backbone, options.image_size)
        assert row["train_all"] is not options.frozen
    assert RECIPE.batch_size == 35


def test_the_bar_of_the_whole_recipe_is_for_what_the_readme_says():
    (words,) = re.findall(r"python -m bench\.train_step ([^\n`]*--recipe full[^\n`]*)", README.read_text())
    options = train_step.parse(words.split())
    (row,) = [bar.row for bar in bars.load() if bar.row.get("recipe") == "full"]
    assert (row["recipe"], row["backbone"], row["image_size"]) == (
        options.recipe,
        options.backbone,
        options.image_size,
    )
    assert [row["batch_size"]] == options.batch_size
