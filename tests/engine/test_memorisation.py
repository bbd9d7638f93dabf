"""Losses of what was dropped, by what it really is."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.engine.distributed import World
from pumlc.engine.memorisation import Memorisation
from pumlc.engine.trainer import fit
from tests.engine.runs import events, tiny_run

ALONE = World(torch.device("cpu"))
TRUTH = np.array([[1, 1, -1], [1, -1, 0], [-1, 1, 1]], np.int8)
OBSERVED = np.array([[1, 0, 0], [0, 0, 0], [-1, 1, 0]], np.int8)


def log1p_exp(*logits: float) -> float:
    return sum(math.log1p(math.exp(logit)) for logit in logits) / len(logits)


def test_means_over_an_epoch(tmp_path):
    logits = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]])
    whole, resumed = (Memorisation(TRUTH, OBSERVED, ALONE) for _ in range(2))
    assert whole.is_known
    whole.add(torch.tensor([2, 0]), logits[[2, 0]])
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (whole, resumed):
        each.add(torch.tensor([1]), logits[[1]].half())
        each.end_epoch(0)
        (entry,) = each.history
        assert entry["epoch"] == 1
        assert entry["true_negatives"] == pytest.approx(log1p_exp(0.3, 0.5), rel=1e-3)
        assert entry["false_negatives"] == pytest.approx(log1p_exp(0.2, 0.4, 0.9), rel=1e-3)
        each.add(torch.tensor([2]), logits[[2]])
        each.end_epoch(1)
        assert each.history[1]["true_negatives"] is None
    assert whole.history == resumed.history


def test_nothing_to_know():
    """No label was dropped; or none that is a positive."""
    for observed in (TRUTH, np.where(TRUTH == 1, TRUTH, 0).astype(np.int8)):
        nothing = Memorisation(TRUTH, observed, ALONE)
        nothing.add(torch.tensor([0]), torch.zeros(1, 3))
        assert not nothing.is_known


def test_a_run_draws_it(picture_table: Path, tmp_path: Path, capsys):
    config = dataclasses.replace(
        tiny_run(picture_table, tmp_path / "run"), image_size=32, epochs=2, method="an", single_positive=True
    )
    assert fit(config) == 0
    path = Path(config.out) / "report" / "memorisation.png"
    assert f"Memorisation of noise: {path}" in capsys.readouterr().out
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((31, 119, 180), (214, 39, 40)):  # both curves
        assert (pixels == colour).all(1).sum() > 20
    assert [event["epoch"] for event in events(config, "memorisation")] == [1, 2]
    for event in events(config, "memorisation"):
        assert 0 < event["true_negatives"] < 3
        assert 0 < event["false_negatives"] < 3
