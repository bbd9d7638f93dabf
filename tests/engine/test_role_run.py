"""Runs with EPR and ROLE: what they log, and how the table of labels trains."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.trainer import fit
from tests.engine.runs import events, tiny_run


def test_a_run_with_epr(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), image_size=32, precision="bf16")
    assert fit(dataclasses.replace(config, method="epr", expected_positives=1.5, single_positive=True)) == 0
    train = events(config, "train")
    assert len(train) == 5
    for event in train:
        assert math.isclose(event["loss"], event["loss_known"] + event["loss_expected_positives"], rel_tol=1e-6)
    assert not events(config, "method")


def test_the_table_trains_apart_from_the_network(picture_table, tmp_path):
    config = dataclasses.replace(
        tiny_run(picture_table, tmp_path / "run"), image_size=32, method="role", single_positive=True
    )
    assert fit(config) == 0
    (event,) = events(config, "method")
    assert event["estimated_positives"] > 0
    _, state = load_checkpoint(Path(config.out) / "checkpoints")
    group = state["optimizer"]["param_groups"][-1]
    assert (group["lr_factor"], group["weight_decay"]) == (10.0, 0.0)
    (number,) = group["params"]
    assert state["optimizer"]["state"][number]["exp_avg"].shape == state["method"]["table"].shape
