"""Runs with the methods that --method offers beside PU-MLC."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pumlc.engine.trainer import fit
from tests.engine.runs import events, tiny_run


@pytest.mark.parametrize(("method", "precision"), [("asl", "bf16"), ("splc", "fp32")])
def test_a_run_with_an_elementwise_loss(method, precision, picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), image_size=32, epochs=2)
    assert fit(dataclasses.replace(config, method=method, precision=precision)) == 0
    train = events(config, "train")
    assert [event["step"] for event in train] == list(range(1, 11))
    assert all(math.isfinite(event["loss"]) and event["loss"] > 0 for event in train)
    assert events(config, "start")[0]["method"] == method
