"""Predictions from a run folder alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from pumlc import predict
from pumlc.data import load_splits
from pumlc.data.loader import EvaluationLoader
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.trainer import fit
from pumlc.metrics.scores import score
from pumlc.nn.classifier import Classifier
from pumlc.nn.pretrained import load_weights
from tests.engine.runs import events, tiny_run
from tests.nn.attacks import ATTACKS, write_attack

NAMES = ["red", "green", "blue", "absent"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Classifier("test_resnet", 4, image_size=32)
    model.head.weight.data.mul_(50)
    run = tmp_path / "run"
    run.mkdir()
    header = {"class_names": NAMES, "backbone": "test_resnet", "image_size": 32}
    save_weights(run / "best.safetensors", model.state_dict(), header)
    return run


def test_same_numbers_as_in_evaluation(run, picture_table, capsys):
    split = load_splits("csv", picture_table).test
    assert predict.main([str(run), *split.paths[:5], "--json", "--device", "cpu"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [entry["image"] for entry in answer] == list(split.paths[:5])

    torch.manual_seed(0)
    model = Classifier("test_resnet", 4, image_size=32).eval()
    model.head.weight.data.mul_(50)
    loader = EvaluationLoader(
        split.paths, split.labels, batch_size=9, image_size=32, device=torch.device("cpu"), threads=1
    )
    with torch.no_grad():
        expected = model(next(iter(loader)).images).sigmoid()[:5]
    found = torch.tensor([[entry["classes"][name] for name in NAMES] for entry in answer])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_boosted_run_is_what_it_was_in_evaluation(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), method="ll-ct", boost=5.0, epochs=2)
    assert fit(config) == 0
    split = load_splits("csv", picture_table).test
    recogniser = predict.load_recogniser(Path(config.out))
    probabilities = predict.predict(recogniser, [Path(path) for path in split.paths], torch.device("cpu"))

    end = events(config, "end")[0]
    scores = score(torch.from_numpy(probabilities).double().logit(), torch.from_numpy(split.labels))
    assert (scores.mean_ap, scores.cf1, scores.of1) == pytest.approx((end["mAP"], end["CF1"], end["OF1"]), abs=0.1)
    model = Classifier("test_resnet", 4, image_size=64, boost=5.0).eval()
    load_weights(model, str(Path(config.out) / "best.safetensors"))
    loader = EvaluationLoader(
        split.paths, split.labels, batch_size=9, image_size=64, device=torch.device("cpu"), threads=1
    )
    with torch.no_grad():
        expected = model(next(iter(loader)).images).sigmoid()
        model.boost = 1.0
        plain = model(next(iter(loader)).images).sigmoid()
    found = torch.from_numpy(probabilities)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_text(run, picture_table, capsys):
    picture = str(picture_table / "test_0.jpg")
    assert predict.main([str(run), picture, "--threshold", "0", "--device", "cpu"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{picture}: ")
    values = [float(part.split()[-1]) for part in line.split(": ")[1].split(",")]
    assert values == sorted(values, reverse=True)
    assert len(values) == 4
    assert predict.main([str(run), picture, "--threshold", "1.1", "--device", "cpu"]) == 0
    assert "nothing above 1.1 (most: " in capsys.readouterr().out


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
    ("folder", "picture", "message"),
    [
        (".", "missing.jpg", "There is no picture"),
        (".", "damaged.jpg", "damaged.jpg"),
        ("nowhere", "damaged.jpg", "There are no weights"),
        ("bare", "damaged.jpg", "its header lacks 'backbone'"),
        ("cut", "damaged.jpg", "cannot be read"),
    ],
)
def test_bad_input(broken, capsys, folder, picture, message):
    assert predict.main([str(broken / folder), str(broken / picture), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize("name", ATTACKS)
def test_code_in_a_file_is_not_run(name, tmp_path, picture_table, capsys):
    """Neither in a file that is given nor in the one of a run folder."""
    path, mark = write_attack(name, tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(path, tmp_path / "run" / "best.safetensors")
    for weights in (path, tmp_path / "run"):
        assert predict.main([str(weights), str(picture_table / "test_0.jpg"), "--device", "cpu"]) == 2
        assert "cannot be read as a safetensors file" in capsys.readouterr().err
        assert not mark.exists()
