"""Small trained-looking runs, and programs that use what was exported of them in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pumlc.engine.checkpoint import save_weights
from pumlc.nn import PUMLC
from pumlc.nn.classifier import Classifier
from pumlc.predict import Options
from tests.nn.batch_norms import randomize_batch_norms

NAMES = ["red", "green", "blue", "absent"]
CALIBRATION = {"temperature": [0.5, 2.0, 1.0, 3.0], "bias": [0.3, -0.2, 0.0, 1.0]}
THRESHOLDS = [0.25, 0.5, 0.625, 0.75]
FP32 = Options(torch.device("cpu"), "fp32", threads=1)

KINDS = {
    "linear": {"backbone": "test_resnet", "head": "linear"},
    "boost": {"backbone": "test_resnet", "head": "linear", "boost": 5.0},
    "full": {"backbone": "test_resnet", "head": "full", "local_global": True},
    "depthwise": {"backbone": "test_convnext", "head": "linear", "local_global": True},
}
"""What a run may be like, as the header of its weights has it."""


def write_run(folder: Path, kind: str) -> Path:
    """A run folder with weights alone: random ones, whose logits differ from picture to picture."""
    header = KINDS[kind]
    torch.manual_seed(0)
    options = {key: value for key, value in header.items() if key in ("boost", "local_global")}
    network = {"linear": Classifier, "full": PUMLC}[header["head"]]
    model = network(header["backbone"], len(NAMES), image_size=64, train_all=True, **options)
    randomize_batch_norms(model)
    model.head.weight.data.mul_(20)
    folder.mkdir(parents=True)
    common = {"class_names": NAMES, "image_size": 64, "calibration": CALIBRATION, "thresholds": THRESHOLDS}
    save_weights(folder / "best.safetensors", model.state_dict(), header | common)
    return folder


def in_a_fresh_process(program: str, refused: Sequence[str], arguments: Sequence[str]) -> dict:
    """The JSON object that a program prints in a process of its own, where these packages cannot be imported."""
    refuse = f"""
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {tuple(refused)}:
            raise ModuleNotFoundError("refused " + name, name=name)
sys.meta_path.insert(0, Refuse())
"""
    command = [sys.executable, "-I", "-c", refuse + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def probabilities(answer: dict) -> np.ndarray:
    return np.array(answer["probabilities"], dtype=np.float32)
