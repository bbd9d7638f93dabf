"""A run of MILe on pictures in folders: where it starts, what it logs and prints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pumlc.engine.command_line import parse
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.presets import PRESETS
from pumlc.engine.schedule import StepDecay
from pumlc.engine.setup import build_method, build_schedule
from pumlc.engine.trainer import Trainer, fit
from pumlc.errors import InputError
from tests.engine.runs import events, tiny_run

COLOURS = ("blue", "green", "red")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two epochs of four steps, with an average of the weights."""
    from PIL import Image

    random = np.random.RandomState(0)
    for split, count in (("train", 7), ("val", 2)):
        for place, colour in enumerate(COLOURS):
            folder = tmp_path / "data" / split / colour
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.randint(0, 80, (36, 48, 3)) + 150 * (np.arange(3) == 2 - place)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return dataclasses.replace(
        tiny_run(tmp_path / "data", tmp_path / "run"),
        layout="folder",
        method="mile",
        mile_k1=3,
        mile_k2=2,
        image_size=32,
        epochs=2,
    )


def test_a_run(config, capsys):
    assert fit(config) == 0
    assert len(events(config, "train")) == 8
    first, second = events(config, "method")
    assert (first["generation"], first["phase"], second["generation"], second["phase"]) == (1, 2, 2, 1)
    assert 0 <= first["pseudo_labels_per_image"] <= 3
    for event in events(config, "eval"):
        assert event["top5"] == 100.0  # three classes
        assert {"top1", "F1_per_image"} <= set(event)
    for event in events(config, "eval")[:2]:
        assert {"top1_ema", "top5_ema", "F1_per_image_ema"} <= set(event)
    end, last = events(config, "end")[0], events(config, "eval")[-1]
    assert (end["top1"], end["F1_per_image"]) == (last["top1"], last["F1_per_image"])
    output = capsys.readouterr().out
    assert f", top1 {end['top1']:.2f}, top5 100.00, F1 per image {end['F1_per_image']:.2f}, weights: " in output


@pytest.mark.parametrize("head", ["linear", "full"])
def test_the_bias_starts_where_one_of_all_classes_is_likely(head, config):
    config = dataclasses.replace(config, head=head)
    bias = Trainer(config, World(torch.device("cpu"))).model.head.bias
    torch.testing.assert_close(bias.detach(), torch.full((3,), -math.log(3)))


def test_the_bias_of_weights_that_are_given_stays(config, tmp_path):
    assert fit(dataclasses.replace(config, method="an", epochs=1, ema_decay=0.0)) == 0
    weights = str(Path(config.out) / "best.safetensors")
    again = Trainer(
        dataclasses.replace(config, weights=weights, out=str(tmp_path / "again")), World(torch.device("cpu"))
    )
    assert not torch.allclose(again.model.head.bias.detach(), torch.full((3,), -math.log(3)), atol=1e-3)


def test_preset():
    config = parse(["mile-imagenet", "--data", "x"])
    assert dataclasses.replace(config, out=None, data="") == PRESETS["mile-imagenet"].config
    assert config.lr == pytest.approx(0.1 * config.batch_size / 256)
    assert math.ceil(200_000 * config.batch_size / 1_281_167) == config.epochs
    schedule = build_schedule(config, 100)
    assert isinstance(schedule, StepDecay)
    assert [schedule(step) for step in (0, 709, 710)] == pytest.approx([config.lr, config.lr, config.lr / 10])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mile-k1", "0"], "--mile-k1 is 0, wanted at least 1"),
        (["--mile-k2", "0"], "--mile-k2 is 0, wanted at least 1"),
        (["--mile-threshold", "1.1"], r"--mile-threshold is 1\.1, wanted between 0 and 1"),
    ],
)
def test_ranges(flags, message):
    with pytest.raises(InputError, match=message):
        parse(["mile-imagenet", "--data", "x", *flags])


def test_no_graph_of_a_step_that_changes(config):
    labels = torch.zeros(1, 3, dtype=torch.int8)
    with pytest.raises(InputError, match="--method mile does not do the same in each"):
        build_method(dataclasses.replace(config, cuda_graph=True), labels, World(torch.device("cpu")))
