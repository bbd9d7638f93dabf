"""LL-Cp in two processes corrects what it corrects in one with the same batches, interrupted or not."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.trainer import fit
from tests.engine.runs import events, tiny_run

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]


def edits_of(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints")[1]["method"]["store"]["edits"]


@pytest.mark.slow
def test_two_processes_are_as_one(picture_table, tmp_path):
    alone = dataclasses.replace(
        tiny_run(picture_table, tmp_path / "alone"),
        image_size=32,
        epochs=3,
        batch_size=6,
        train_all=False,  # BatchNorms see the images of a process
        method="ll-cp",
        delta_rel=10.0,
        single_positive=True,
        lr=1e-3,
    )
    assert fit(alone) == 0
    expected = edits_of(Path(alone.out))
    assert len(expected["image"]) > 10

    together = tmp_path / "together"
    flags = "--backbone test_resnet --image-size 32 --epochs 3 --batch-size 3 --no-train-all --method ll-cp "
    flags += "--delta-rel 10 --single-positive --lr 1e-3 --log-every 1 --threads 1 --device cpu --precision fp32 "
    steps = events(alone, "start")[0]["steps_per_epoch"]
    flags += f"--steps {steps + steps // 2}"  # in the middle of the second epoch
    for words in (
        ["csv", "--data", str(picture_table), "--out", str(together), *flags.split()],
        ["--resume", str(together), "--steps", "None"],
    ):
        subprocess.run([*TORCHRUN, *words], cwd=ROOT, check=True, capture_output=True, timeout=300)
    found = edits_of(together)
    for name in ("image", "label", "epoch"):
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["probability"], expected["probability"], rtol=1e-3, atol=1e-4)
    ours, theirs = (
        [event["corrected_for_good"] for event in events(dataclasses.replace(alone, out=str(run)), "method")]
        for run in (together, alone.out)
    )
    assert ours == theirs
