"""Runs with EPR and ROLE: what they log, and that a table of labels goes on where it stopped."""

from __future__ import annotations

import dataclasses
import math
import signal
from pathlib import Path

import torch

from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.command_line import parse
from pumlc.engine.trainer import Trainer, fit
from tests.engine.runs import events, tiny_run


def test_a_run_with_epr(picture_table, tmp_path):
    config = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), image_size=32, precision="bf16")
    assert fit(dataclasses.replace(config, method="epr", expected_positives=1.5, single_positive=True)) == 0
    train = events(config, "train")
    assert len(train) == 5
    for event in train:
        assert math.isclose(event["loss"], event["loss_known"] + event["loss_expected_positives"], rel_tol=1e-6)
    assert not events(config, "method")


def test_an_interrupted_run_with_role_goes_on_as_if_it_had_not_been(picture_table, tmp_path, monkeypatch):
    config = dataclasses.replace(
        tiny_run(picture_table, tmp_path / "run"),
        image_size=32,
        epochs=2,
        method="role",
        expected_positives=1.5,
        single_positive=True,
        seed=3,
    )
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    assert fit(whole) == 0

    step = Trainer.train_step
    seen = []

    def interrupted(self, batch, epoch):
        seen.append(1)
        if len(seen) == 7:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, epoch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert fit(config) == 130
    monkeypatch.setattr(Trainer, "train_step", step)
    torch.manual_seed(99)
    assert fit(parse(["--resume", config.out])) == 0

    for name in ("train", "method"):
        ours, theirs = (
            [
                {key: value for key, value in event.items() if key.startswith(("step", "loss", "estimated"))}
                for event in run
            ]
            for run in (events(config, name), events(whole, name))
        )
        assert ours == theirs
    assert [event["estimated_positives"] > 0 for event in events(whole, "method")] == [True, True]
    (_, state), (_, expected) = (load_checkpoint(Path(each.out) / "checkpoints") for each in (config, whole))
    assert torch.equal(state["method"]["table"], expected["method"]["table"])
    assert state["optimizer"]["state"].keys() == expected["optimizer"]["state"].keys()
    for number, moments in expected["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(state["optimizer"]["state"][number][name], tensor), (number, name)
    for name, tensor in expected["model"].items():
        assert torch.equal(tensor, state["model"][name]), name
    group = expected["optimizer"]["param_groups"][-1]
    assert (group["lr_factor"], group["weight_decay"]) == (10.0, 0.0)
