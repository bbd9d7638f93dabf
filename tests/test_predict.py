"""Predictions from a run folder alone: the numbers of evaluation, in every format, whatever the files are."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.data import load_splits
from pumlc.data.loader import EvaluationLoader
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.trainer import fit
from pumlc.metrics.f1 import f1
from pumlc.metrics.scores import score
from pumlc.nn.classifier import Classifier
from pumlc.nn.pretrained import load_weights
from pumlc.predict import predict
from pumlc.predict.__main__ import main
from pumlc.predict.rows import Row, Text
from tests.data.odd_files import write_undecodable
from tests.engine.runs import events, tiny_run
from tests.export.exported import CALIBRATION, FP32, THRESHOLDS
from tests.nn.attacks import ATTACKS, write_attack

NAMES = ["red", "green", "blue", "absent"]
HOW = ["--device", "cpu", "--precision", "fp32", "--threads", "1"]


def network() -> Classifier:
    torch.manual_seed(0)
    model = Classifier("test_resnet", 4, image_size=32)
    model.head.weight.data.mul_(50)
    return model.eval()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    header = {"class_names": NAMES, "backbone": "test_resnet", "image_size": 32}
    save_weights(run / "best.safetensors", network().state_dict(), header)
    return run


@torch.no_grad()
def evaluated(split) -> torch.Tensor:
    """Logits [N, C] of all pictures of a small split."""
    loader = EvaluationLoader(
        split.paths, split.labels, batch_size=len(split), image_size=32, device=torch.device("cpu"), threads=1
    )
    return network()(next(iter(loader)).images)


def test_same_numbers_as_in_evaluation(run, picture_table, capsys):
    split = load_splits("csv", picture_table).test
    assert main([str(run), *split.paths[:5], "--json", *HOW, "--batch-size", "2"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [entry["image"] for entry in answer] == list(split.paths[:5])
    found = torch.tensor([[entry["classes"][name] for name in NAMES] for entry in answer])
    torch.testing.assert_close(found, evaluated(split).sigmoid()[:5], rtol=1e-4, atol=1e-5)


def test_probabilities_are_calibrated_and_labels_follow_the_thresholds(run, picture_table, capsys):
    header = {"class_names": NAMES, "backbone": "test_resnet", "image_size": 32}
    header |= {"calibration": CALIBRATION, "thresholds": THRESHOLDS}
    save_weights(run / "best.safetensors", network().state_dict(), header)
    split = load_splits("csv", picture_table).test
    expected = (evaluated(split) / torch.tensor(CALIBRATION["temperature"])) + torch.tensor(CALIBRATION["bias"])
    expected = expected.sigmoid().numpy()
    for flags, thresholds in ([], THRESHOLDS), (["--threshold", "0.4"], [0.4] * 4):
        assert main([str(run), *split.paths, "--format", "jsonl", *HOW, *flags]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found = np.array([list(row["classes"].values()) for row in rows])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        above = [{name for name, p, t in zip(NAMES, row, thresholds, strict=True) if p >= t} for row in found]
        assert [set(row["labels"]) for row in rows] == above
        assert 0 < sum(map(len, above)) < 4 * len(rows)


def test_a_boosted_run_is_what_it_was_in_evaluation(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), method="ll-ct", boost=5.0, epochs=2)
    assert fit(config) == 0
    split = load_splits("csv", picture_table).test
    recogniser = load_recogniser(Path(config.out))
    probabilities = predict(recogniser, split.paths, FP32)

    end, labels, found = events(config, "end")[0], torch.from_numpy(split.labels), torch.from_numpy(probabilities)
    assert score(found.double().logit(), labels).mean_ap == pytest.approx(end["mAP"], abs=0.1)
    at_thresholds = f1(found >= recogniser.thresholds, labels)
    assert at_thresholds == pytest.approx((end["CF1_thresholds"], end["OF1_thresholds"]), abs=0.1)
    model = Classifier("test_resnet", 4, image_size=64, boost=5.0).eval()
    load_weights(model, str(Path(config.out) / "best.safetensors"))
    loader = EvaluationLoader(
        split.paths, split.labels, batch_size=9, image_size=64, device=torch.device("cpu"), threads=1
    )
    with torch.no_grad():
        expected = recogniser.calibration.probability(model(next(iter(loader)).images))
        model.boost = 1.0
        plain = recogniser.calibration.probability(model(next(iter(loader)).images))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_text(run, picture_table, capsys):
    picture = str(picture_table / "test_0.jpg")
    assert main([str(run), picture, "--threshold", "0", *HOW]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{picture}: ")
    values = [float(part.split()[-1]) for part in line.split(": ")[1].split(",")]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4
    assert main([str(run), picture, "--threshold", "1.1", *HOW]) == 0
    assert "nothing above 1.1 (most: " in capsys.readouterr().out


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_names_of_classes_do_not_break_a_line(threshold):
    file = io.StringIO()
    writer = Text(file, ["a\nb", "c\u202ed"], np.full(2, threshold, np.float32))
    for probabilities in ((0.8, 0.7), (0.7, 0.8)):
        writer.write(Row("picture.jpg", np.array(probabilities, np.float32), None))
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert '"a\\nb" 0.800' in lines[0]
    assert '"c\\u202ed" 0.800' in lines[1]


@pytest.fixture
def mixed(tmp_path: Path, picture_table: Path) -> tuple[list[Path], dict[Path, str]]:
    """A folder's pictures in the order of their names, some with odd ones, and the reasons of those that are none."""
    folder = tmp_path / "mixed"
    reasons = write_undecodable(folder)
    for name, source in (("a.jpg", 0), ("line\nbreak.jpg", 1), ("ü.JPEG", 2), ("zz.png", 3)):
        shutil.copy(picture_table / f"test_{source}.jpg", folder / name)
    (folder / "deeper" / ".hidden").mkdir(parents=True)
    shutil.copy(picture_table / "test_4.jpg", folder / "deeper" / os.fsdecode(b"\xff.jpg"))
    shutil.copy(picture_table / "test_4.jpg", folder / "deeper" / ".hidden" / "b.jpg")
    (folder / "notes.txt").write_text("no picture\n")
    here = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    here = [path for path in here if path.is_file()]
    return [*here, folder / "deeper" / os.fsdecode(b"\xff.jpg")], reasons


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_bad_files_have_rows_that_say_why(run, mixed, tmp_path, kind, capsys):
    paths, reasons = mixed
    gone = tmp_path / "gone.jpg"
    out = tmp_path / f"rows.{kind}"
    command = [str(run), str(tmp_path / "mixed"), str(gone), str(paths[0]), "--format", kind, "--out", str(out)]
    assert main([*command, "--batch-size", "3", *HOW]) == 0
    error = capsys.readouterr().err
    with out.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file)) if kind == "csv" else [json.loads(line) for line in file]
    assert [row["image"] for row in rows] == [str(path) for path in (*paths, gone)]
    bad = {row["image"]: row["error"] for row in rows if row.get("error")}
    expected = {str(path): reason for path, reason in reasons.items() if path in paths} | {str(gone): "cannot be read"}
    assert bad.keys() == expected.keys()
    assert all(bad[name].startswith(reason) for name, reason in expected.items())
    assert "named again and have one row all the same: 1" in error
    assert f"pictures: {len(rows)}, of which {len(bad)} cannot be used" in error

    usable = [path for path in paths if path not in reasons]
    assert len(usable) == 5
    alone = predict(load_recogniser(run), usable, FP32)
    columns = [row if kind == "csv" else row["classes"] for row in rows if not row.get("error")]
    found = np.array([[float(row[name]) for name in NAMES] for row in columns])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-6)


def test_patterns_and_a_list(run, mixed, tmp_path, capsys, monkeypatch):
    paths, reasons = mixed
    usable = [path for path in paths if path not in reasons]
    listed = b"\0".join(os.fsencode(path) for path in (usable[1], usable[0]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed + b"\0")))
    pattern = str(tmp_path / "mixed" / "**" / "[uü]*.JPEG")
    assert main([str(run), pattern, "-", "--null", "--format", "jsonl", *HOW]) == 0
    rows = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert rows == [str(tmp_path / "mixed" / "ü.JPEG"), str(usable[1]), str(usable[0])]

    lines = b"\r\n".join([os.fsencode(usable[0]), b"", os.fsencode(tmp_path / "mixed" / "deeper")])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert main([str(run), "-", "--format", "jsonl", *HOW]) == 0
    rows = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert rows == [str(usable[0]), str(usable[-1])]


def test_rows_come_while_others_wait_and_a_closed_pipe_is_no_error(run, picture_table):
    """As ``python -m pumlc.predict RUN FOLDER | head -1``."""
    command = [sys.executable, "-m", "pumlc.predict", str(run), str(picture_table), "--batch-size", "1", *HOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(f"{picture_table / 'test_0.jpg'}: ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


@pytest.fixture
def broken(run, picture_table):
    damaged = run / "damaged.jpg"
    damaged.write_bytes((picture_table / "test_0.jpg").read_bytes()[:200])
    bare = run / "bare"
    bare.mkdir()
    save_weights(bare / "best.safetensors", {"weight": torch.zeros(1)}, {"class_names": NAMES})
    cut = run / "cut"
    cut.mkdir()
    shutil.copy(run / "best.safetensors", cut)
    (cut / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes()[:5000])
    return run


@pytest.mark.parametrize(
    ("folder", "arguments", "message"),
    [
        (".", ["missing.jpg"], "missing.jpg cannot be read: No such file or directory. Nothing could be predicted."),
        (".", ["damaged.jpg", "missing.jpg"], "and none of 1 more can be used. Nothing could be predicted."),
        ("nowhere", ["damaged.jpg"], "There are no weights"),
        ("bare", ["damaged.jpg"], "its header lacks 'backbone'"),
        ("cut", ["damaged.jpg"], "cannot be read"),
        (".", ["damaged.jpg", "--out", "/nowhere/rows.csv"], "/nowhere/rows.csv cannot be written: No such file"),
        (".", ["damaged.jpg", "--batch-size", "0"], "--batch-size is 0"),
        (".", ["damaged.jpg", "--threads", "0"], "--threads is 0; at least 1 was wanted"),
        (".", ["damaged.jpg", "--threshold", "nan"], "--threshold is nan; a number was wanted"),
    ],
)
def test_bad_input(broken, capsys, monkeypatch, folder, arguments, message):
    monkeypatch.chdir(broken)
    assert main([folder, *arguments, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert message in error


def test_the_function_names_what_it_cannot_use(broken, picture_table):
    pictures = [picture_table / "test_0.jpg", broken / "damaged.jpg"]
    with pytest.raises(ValueError, match=r"1 of 2 pictures cannot be used: .*damaged\.jpg is cut off or damaged"):
        predict(load_recogniser(broken), pictures, FP32)


@pytest.mark.parametrize("name", ATTACKS)
def test_code_in_a_file_is_not_run(name, tmp_path, picture_table, capsys):
    """Neither in a file that is given nor in the one of a run folder."""
    path, mark = write_attack(name, tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(path, tmp_path / "run" / "best.safetensors")
    for weights in (path, tmp_path / "run"):
        assert main([str(weights), str(picture_table / "test_0.jpg"), "--device", "cpu"]) == 2
        assert "cannot be read as a safetensors file" in capsys.readouterr().err
        assert not mark.exists()
