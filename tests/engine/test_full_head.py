"""Runs with the full head: word vectors read or learned, the graph from what is known, going on, and predicting."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.command_line import parse
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.presets import RECIPES
from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.trainer import Trainer, fit
from pumlc.errors import InputError
from pumlc.nn import PUMLC
from pumlc.nn.pretrained import read_tensors
from pumlc.predict.__main__ import main
from tests.engine.runs import events, tiny_run

ALONE = World(torch.device("cpu"))


@pytest.fixture
def config(picture_table: Path, tmp_path: Path) -> Config:
    """Five steps of everything, with vectors for all classes but the last."""
    words = tmp_path / "glove.txt"
    numbers = np.random.RandomState(0).randn(3, 300)
    words.write_text(
        "".join(f"{w} {' '.join(map(str, n))}\n" for w, n in zip(("red", "green", "blue"), numbers, strict=True))
    )
    run = tiny_run(picture_table, tmp_path / "run")
    return dataclasses.replace(run, **RECIPES["full"], recipe="full", word_vectors=str(words))


def test_run_stops_goes_on_and_predicts(config, picture_table, tmp_path, capsys):
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    assert fit(whole) == 0
    note = "words: vectors of 3 of 4 classes; NOT FOUND, so the mean of the others stands in: absent"
    assert note in capsys.readouterr().out
    (start,) = events(whole, "start")
    assert (start["head"], start["notes"], start["local_global_convolutions"]) == ("full", [note], 9)

    assert fit(dataclasses.replace(config, steps=3)) == 0
    Path(config.word_vectors).unlink()  # a run that goes on has them in its checkpoint
    assert fit(parse(["--resume", config.out, "--steps", "5"])) == 0
    losses = {event["step"]: event["loss"] for event in events(config, "train")}
    assert losses == {event["step"]: event["loss"] for event in events(whole, "train")}
    assert len(losses) == 5
    states = [load_checkpoint(Path(run.out) / "checkpoints")[1]["model"] for run in (config, whole)]
    for name, tensor in states[1].items():
        assert torch.equal(states[0][name], tensor), name

    picture = str(picture_table / "test_0.jpg")
    capsys.readouterr()
    assert main([config.out, picture, "--json", "--device", "cpu"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert all(0 < entry["classes"][name] < 1 for name in ("red", "green", "blue", "absent"))
    model = load_recogniser(Path(config.out)).model
    assert isinstance(model, PUMLC)
    assert torch.equal(model.words, states[0]["words"])
    assert torch.equal(model.graph.adjacency, states[0]["graph.adjacency"])


def test_what_the_network_is_made_of(config):
    trainer = Trainer(config, ALONE)
    words = trainer.model.words
    assert not words.requires_grad
    torch.testing.assert_close(words[3], words[:3].mean(0), rtol=1e-5, atol=1e-6)
    positive = trainer.data.observed == 1
    assert trainer.model.graph.adjacency[0, 1] == pytest.approx(
        (positive[:, 0] & positive[:, 1]).sum() / positive[:, 0].sum()
    )
    assert trainer.model.graph.adjacency[3].tolist() == [0, 0, 0, 1]


def test_learned_words(config, capsys):
    config = dataclasses.replace(config, word_vectors=None, steps=2)
    before = Trainer(dataclasses.replace(config, out=f"{config.out}-unused"), ALONE).model.words.detach().clone()
    assert fit(config) == 0
    assert "words: no --word-vectors, so 300 numbers per class are learned instead" in capsys.readouterr().out
    after = read_tensors(Path(config.out) / "best.safetensors")["words"]
    assert after.shape == (4, 300)
    assert (after != before).any(1).all()


def test_no_such_words(config):
    with pytest.raises(InputError, match=r"There is no file of word vectors none\.txt"):
        fit(dataclasses.replace(config, word_vectors="none.txt"))
    assert not Path(config.out).exists()
