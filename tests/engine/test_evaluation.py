"""Every image is evaluated once, on one process and on several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pumlc.data import load_splits
from pumlc.data.loader import EvaluationLoader
from pumlc.engine.distributed import World
from pumlc.engine.ema import MovingAverage
from pumlc.engine.evaluation import logits_of_split
from pumlc.nn.classifier import Classifier

ALONE = World(torch.device("cpu"))

# What each of two processes runs.
SCRIPT = """
import sys
from pathlib import Path
import torch
from pumlc.engine.distributed import join
from test_evaluation import evaluate_test_split

with join("cpu", timeout_minutes=1) as here:
    logits = evaluate_test_split(Path(sys.argv[1]), here)
    if here.is_main:
        torch.save(logits, sys.argv[2])
"""


def evaluate_test_split(folder: Path, here: World) -> torch.Tensor:
    torch.set_num_threads(1)
    split = load_splits("csv", folder).test
    torch.manual_seed(0)
    model = Classifier("test_resnet", split.num_classes, image_size=32)
    loader = EvaluationLoader(
        split.paths,
        split.labels,
        batch_size=2,
        image_size=32,
        device=here.device,
        rank=here.rank,
        world_size=here.size,
        threads=1,
    )
    return logits_of_split(model, loader, here)["model"]


def batches(*indices):
    """A loader of grey pictures whose value is their row number."""

    class Loader(list):
        labels = torch.zeros(5, 2, dtype=torch.int8)

    return Loader(
        SimpleNamespace(images=torch.tensor(rows).float().reshape(-1, 1, 1, 1), index=torch.tensor(rows))
        for rows in indices
    )


def rows_of(images):
    return images.reshape(-1, 1) * torch.tensor([[1.0, 10.0]])


class Rows(torch.nn.Module):
    def forward(self, images):
        return rows_of(images)


def test_rows_land_in_their_place():
    logits = logits_of_split(Rows(), batches([4, 0], [1, 3], [2]), ALONE)
    assert list(logits) == ["model"]
    assert logits["model"].tolist() == [[0, 0], [1, 10], [2, 20], [3, 30], [4, 40]]


@pytest.mark.parametrize("indices", [([0, 1], [2, 3]), ([0, 1], [2, 3], [4, 4]), ([0, 1, 2, 3, 4], [0])])
def test_missing_and_repeated_images_are_noticed(indices):
    with pytest.raises(RuntimeError, match="1 of 5 images were not evaluated exactly once"):
        logits_of_split(Rows(), batches(*indices), ALONE)


def test_model_and_average_in_one_pass():
    torch.manual_seed(0)
    model = Classifier("test_resnet", 2, image_size=32, train_all=True).train()
    average = MovingAverage(model, 0.9)
    before = model.state_dict()["head.bias"].clone()
    model.head.bias.data.add_(1.0)  # the average still holds the old bias
    loader = batches([0, 1], [2, 3, 4])
    for batch in loader:
        batch.images = batch.images.expand(-1, 3, 32, 32)

    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)  # its cache of casts must not leak from one to the other

    logits = logits_of_split(model, loader, ALONE, average=average, autocast=autocast)
    torch.testing.assert_close(logits["model"] - logits["ema"], torch.ones(5, 2))
    assert torch.equal(model.head.bias, before + 1)
    assert model.training


@pytest.mark.slow
def test_two_processes_equal_one(picture_table: Path, tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    arguments = [tmp_path / "script.py", picture_table, tmp_path / "logits.pt"]
    subprocess.run([*command, *arguments], check=True, env={**os.environ, "PYTHONPATH": path})
    logits = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert logits.shape == (9, 4)  # an odd number of images for two processes
    torch.testing.assert_close(logits, evaluate_test_split(picture_table, ALONE))
