"""What a finished run leaves of its evaluation: files, calibration, thresholds, and words on what was chosen where."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.data import load_splits
from pumlc.engine import DivergedError, final_evaluation
from pumlc.engine.command_line import parse
from pumlc.engine.config import Config
from pumlc.engine.divergence import check_logits
from pumlc.engine.evaluation_files import EvaluatedSplit, evaluated_splits, read_split, read_summary
from pumlc.engine.interrupt import StoppedError
from pumlc.engine.judging import Fitted, judge
from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.trainer import Trainer, fit
from pumlc.metrics.f1 import f1
from pumlc.metrics.reliability import pooled, reliability
from pumlc.metrics.scores import score
from pumlc.metrics.thresholds import choose_thresholds
from pumlc.nn.calibration import Calibration
from pumlc.nn.pretrained import read_metadata
from tests.engine.runs import events, tiny_run


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    """Two epochs of five steps."""
    return dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), image_size=32, epochs=2, ema_decay=0.5)


def without_val(table: Path, folder: Path) -> str:
    """The pictures of val left out."""
    folder.mkdir()
    for picture in table.glob("*.jpg"):
        (folder / picture.name).symlink_to(picture)
    rows = (table / "labels.csv").read_text().splitlines(keepends=True)
    (folder / "labels.csv").write_text("".join(row for row in rows if ",val," not in row))
    return str(folder)


def test_files_of_the_kept_weights(config, capsys):
    assert fit(config) == 0
    run, end = Path(config.out), events(config, "end")[0]
    assert evaluated_splits(run) == ("val", "test")
    splits = load_splits("csv", Path(config.data))
    for name, split in (("val", splits.val), ("test", splits.test)):
        found = read_split(run, name)
        assert found.paths == [os.path.abspath(path) for path in split.paths]
        assert np.array_equal(found.labels.numpy(), split.labels)
        assert torch.equal(found.observed, found.labels)
        assert found.usable.all()
        assert (found.weights, found.epoch) == (end["best_on_val"]["weights"], end["best_on_val"]["epoch"])
    assert score(read_split(run, "val").logits, read_split(run, "val").labels).mean_ap == end["best_on_val"]["mAP"]

    summary, test = read_summary(run), read_split(run, "test")
    assert (summary["selected_on"], summary["fitted_on"]) == ("val", "val")
    entry = summary["splits"]["test"]
    assert (entry["images"], entry["unusable"], entry["flattered_by"]) == (9, 0, [])
    assert summary["splits"]["val"]["flattered_by"] == ["weights", "calibration", "thresholds"]
    kept = entry["scores"]["kept"]
    plain = score(test.logits, test.labels)
    assert (kept["mAP"], kept["CF1"], kept["OF1"]) == (plain.mean_ap, plain.cf1, plain.of1)
    assert (end["mAP"], end["mAP_last"]) == (kept["mAP"], entry["scores"]["last"]["mAP"])
    assert [each["AP"] for each in kept["classes"]] == plain.ap
    assert [each["name"] for each in kept["classes"]] == ["red", "green", "blue", "absent"]
    assert [each["positives"] for each in kept["classes"]] == (test.labels == 1).sum(0).tolist()
    assert [each["known_negatives"] for each in kept["classes"]] == (test.labels == -1).sum(0).tolist()
    low, high = kept["mAP_interval"]
    assert low < kept["mAP"] < high
    assert kept["mAP_published"] == pytest.approx(0.75 * kept["mAP"])  # the absent class counts as 0
    assert entry["scores"]["last"]["CF1_thresholds"] is None  # nothing was fitted to the last weights

    output = capsys.readouterr().out
    assert f"test mAP {kept['mAP']:.2f} % (95 % interval {low:.2f} to {high:.2f}), weights: best on val" in output
    half, own = (f"CF1 {end[f'CF1{of}']:.2f}, OF1 {end[f'OF1{of}']:.2f}" for of in ("", "_thresholds"))
    assert f"{half} at 0.5; {own} at thresholds from val" in output
    assert kept["classes_with_few_positives"] == 3
    assert "; the interval is not to be relied on: 3 classes have fewer than 30 positives\n" in output
    assert f"calibration error {end['ECE']:.2f} %, {end['ECE_calibrated']:.2f} % calibrated on val" in output
    assert "Nothing was chosen" not in output


def test_calibration_and_thresholds_are_kept_with_the_weights(config):
    assert fit(config) == 0
    run, summary = Path(config.out), read_summary(Path(config.out))
    recogniser, test = load_recogniser(run), read_split(Path(config.out), "test")
    assert (recogniser.calibration.temperature != 1).all()
    probability = recogniser.calibration.probability(test.logits)
    kept = summary["splits"]["test"]["scores"]["kept"]
    expected = f1(probability >= recogniser.thresholds, test.labels)
    assert (kept["CF1_thresholds"], kept["OF1_thresholds"]) == expected
    for when, of in (("before", test.logits.double().sigmoid()), ("after", probability)):
        table = reliability(of, test.labels)
        assert kept["reliability"][when]["ECE"] == pytest.approx(100 * float(pooled(table).error))
        assert kept["reliability"][when]["ECE_classes"] == pytest.approx(100 * float(table.error.mean()))
        assert sum(bin["count"] for bin in kept["reliability"][when]["bins"]) == 36
    val = read_split(run, "val")
    chosen = choose_thresholds(recogniser.calibration(val.logits), val.labels)
    assert recogniser.thresholds.tolist() == pytest.approx(chosen.tolist())
    assert chosen.tolist() != pytest.approx(choose_thresholds(val.logits, val.labels).tolist())
    assert summary["thresholds"] == recogniser.thresholds.tolist()
    assert summary["calibration"]["bias"] == recogniser.calibration.bias.tolist()

    newest = sorted((run / "checkpoints").glob("best-*.safetensors"))[-1]
    assert newest.samefile(run / "best.safetensors")
    header = read_metadata(newest)
    assert json.loads(header["calibration"]) == summary["calibration"]
    assert (json.loads(header["selected_on"]), json.loads(header["fitted_on"])) == ("val", "val")
    assert json.loads(header["weights"]) == summary["weights"]


def test_a_run_that_stops_in_its_last_evaluation_goes_on_to_the_same_end(config, tmp_path, monkeypatch):
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    assert fit(whole) == 0
    judge = final_evaluation.judge_run

    def killed(*arguments):
        signal.raise_signal(signal.SIGINT)
        raise StoppedError

    monkeypatch.setattr(final_evaluation, "judge_run", killed)
    assert fit(config) == 130
    monkeypatch.setattr(final_evaluation, "judge_run", judge)
    assert fit(parse(["--resume", config.out])) == 0
    assert read_summary(Path(config.out)) == read_summary(Path(whole.out))
    headers = [read_metadata(Path(each.out) / "best.safetensors") for each in (config, whole)]
    assert headers[0] == headers[1]


def test_more_epochs_are_judged_anew(config):
    assert fit(dataclasses.replace(config, steps=5)) == 0
    first = read_metadata(Path(config.out) / "best.safetensors")
    assert fit(parse(["--resume", config.out, "--steps", "None"])) == 0
    summary = read_summary(Path(config.out))
    header = read_metadata(Path(config.out) / "best.safetensors")
    assert json.loads(header["calibration"]) == summary["calibration"]
    assert (json.loads(header["epoch"]), json.loads(header["weights"])) == (summary["epoch"], summary["weights"])
    assert json.loads(first["epoch"]) == 1


def test_a_run_without_a_val_split_says_that_nothing_was_chosen(config, picture_table, tmp_path, capsys):
    config = dataclasses.replace(config, data=without_val(picture_table, tmp_path / "data"), hold_out=0.0)
    assert fit(config) == 0
    run, end = Path(config.out), events(config, "end")[0]
    summary = read_summary(run)
    assert [summary[key] for key in ("selected_on", "fitted_on", "calibration", "thresholds")] == [None] * 4
    assert (summary["weights"], summary["epoch"]) == ("ema", 2)
    assert list(summary["splits"]) == ["test"]
    assert summary["splits"]["test"]["flattered_by"] == []
    kept = summary["splits"]["test"]["scores"]["kept"]
    assert kept["mAP"] == end["mAP"] == events(config, "eval")[-1]["mAP_ema"]
    assert (kept["CF1_thresholds"], kept["reliability"]["after"], end["ECE_calibrated"]) == (None, None, None)
    header = read_metadata(run / "best.safetensors")
    assert json.loads(header["selected_on"]) is None
    assert "calibration" not in header
    start = events(config, "start")[0]
    assert start["selected_on"] is None
    assert start["notes"][0].startswith("no val split: the weights of the last step are kept, nothing is chosen")
    output = capsys.readouterr().out
    assert start["notes"][0] in output
    assert "Nothing was chosen on test: these are the weights of the last step." in output


def test_nothing_is_chosen_on_a_val_split_without_known_labels(config, picture_table, tmp_path, capsys):
    folder = tmp_path / "data"
    data = without_val(picture_table, folder)
    rows = (picture_table / "labels.csv").read_text().splitlines()
    with (folder / "labels.csv").open("a") as file:
        file.writelines(f"{row.split(',')[0]},val,,,,\n" for row in rows if ",val," in row)
    config = dataclasses.replace(config, data=data, hold_out=0.0, epochs=1)
    assert fit(config) == 0
    summary = read_summary(Path(config.out))
    assert [summary[key] for key in ("selected_on", "fitted_on", "calibration", "thresholds")] == [None] * 4
    assert list(summary["splits"]) == ["test"]
    assert "fitted_on" not in read_metadata(Path(config.out) / "best.safetensors")
    start, end = events(config, "start")[0], events(config, "end")[0]
    assert (start["selected_on"], end["best_on_val"]) == (None, None)
    output = capsys.readouterr().out
    assert "the val split of 7 images counts as none" in output
    assert "best on val" not in output
    assert "calibrated on val" not in output


def test_a_tenth_is_held_out_and_said_so(config, picture_table, tmp_path, capsys):
    config = dataclasses.replace(config, data=without_val(picture_table, tmp_path / "data"), epochs=1)
    assert fit(config) == 0
    assert list(read_summary(Path(config.out))["splits"]) == ["val", "test"]
    assert len(read_split(Path(config.out), "val").paths) == 3
    output = capsys.readouterr().out
    assert "the data has no val split, so 3 training images are held out: weights, thresholds and calibration" in output
    assert "(--hold-out 0 trains on all images and chooses nothing)" in output
    start = events(config, "start")[0]
    assert (start["images"], start["selected_on"]) == (23, "val")


def test_only_val(config, picture_table, tmp_path, capsys):
    folder = tmp_path / "data"
    data = without_val(picture_table, folder)
    rows = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(rows.replace(",test,", ",val,"))
    config = dataclasses.replace(config, data=data)
    assert fit(config) == 0
    summary = read_summary(Path(config.out))
    assert list(summary["splits"]) == ["val"]
    assert list(summary["splits"]["val"]["scores"]) == ["kept"]
    assert "Weights, thresholds and calibration were chosen on val itself" in capsys.readouterr().out


def test_a_damaged_picture_is_left_out_of_everything(config, picture_table, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for path in picture_table.iterdir():
        (data / path.name).write_bytes(b"\xff\xd8 no picture" if path.name == "val_2.jpg" else path.read_bytes())
    config = dataclasses.replace(config, data=str(data), max_bad_share=0.2)
    assert fit(config) == 0
    found = read_split(Path(config.out), "val")
    assert found.usable.tolist() == [not path.endswith("val_2.jpg") for path in found.paths]
    entry = read_summary(Path(config.out))["splits"]["val"]
    assert (entry["images"], entry["unusable"]) == (6, 1)
    known = entry["scores"]["kept"]["classes"][0]
    assert known["positives"] + known["known_negatives"] == 6


def test_very_confident_scores_are_parted_at_the_thresholds():
    logits = torch.tensor([30.0, 25.0, 24.0, 20.0, 19.0]).repeat(5)[:, None]
    labels = torch.tensor([1, 1, 1, -1, -1], dtype=torch.int8).repeat(5)[:, None]
    usable = torch.ones(25, dtype=torch.bool)
    split = EvaluatedSplit(logits, labels, labels, usable, ["x.jpg"] * 25, ["a"], "val", "model", 1)
    fitted = Fitted(Calibration.identity(1), choose_thresholds(logits, labels), "val")
    kept = torch.tensor(json.loads(json.dumps(fitted.header()["thresholds"])), dtype=torch.float64)
    assert judge(split, fitted._replace(thresholds=kept))["OF1_thresholds"] == 100


def test_scores_that_are_not_finite():
    check_logits(torch.tensor([[1.0], [2.0]]))
    with pytest.raises(DivergedError, match="scores of 1 of 2 images are not finite"):
        check_logits(torch.tensor([[1.0], [float("nan")]]))


def test_a_run_ends_where_they_are_not(config, monkeypatch):
    step = Trainer.train_step

    def broken(self, batch, epoch):
        lr = step(self, batch, epoch)
        self.model.head.bias.data.fill_(float("nan"))
        return lr

    monkeypatch.setattr(Trainer, "train_step", broken)
    with pytest.raises(DivergedError, match="not finite"):
        fit(dataclasses.replace(config, steps=1))
