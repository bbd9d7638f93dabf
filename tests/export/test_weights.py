"""Merged weights in a safetensors file, and the loader that knows them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pumlc.data import load_splits
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.recogniser import load_recogniser
from pumlc.errors import InputError
from pumlc.export.formats import write_weights
from pumlc.nn.pretrained import read_metadata, read_tensors
from pumlc.predict import predict
from tests.export.exported import CALIBRATION, FP32, KINDS, NAMES, THRESHOLDS, write_run

TOLERANCE = 1e-5  # of a probability


@pytest.mark.parametrize("kind", KINDS)
def test_the_loader_predicts_as_the_model_does(kind, tmp_path, picture_table):
    run = write_run(tmp_path / kind, kind)
    file = tmp_path / "model.safetensors"
    write_weights(load_recogniser(run), file)
    pictures = load_splits("csv", picture_table).test.paths
    merged = load_recogniser(file)
    assert merged.class_names == NAMES
    assert merged.thresholds.tolist() == THRESHOLDS
    assert merged.calibration.temperature.tolist() == CALIBRATION["temperature"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.model.modules())
    assert not any(".global_branch." in name for name in read_tensors(file))
    assert np.abs(predict(merged, pictures, FP32) - predict(load_recogniser(run), pictures, FP32)).max() <= TOLERANCE


def test_weights_of_another_network_are_refused(tmp_path):
    run = write_run(tmp_path / "run", "linear")
    file = tmp_path / "model.safetensors"
    write_weights(load_recogniser(run), file)
    other = {"backbone": "resnet18", "class_names": NAMES, "image_size": 64, "inference_form": True}
    assert read_metadata(file)["inference_form"] == "true"
    save_weights(file, {name: torch.clone(t) for name, t in read_tensors(file).items()}, KINDS["linear"] | other)
    with pytest.raises(InputError, match=r"model\.safetensors does not fit resnet18"):
        load_recogniser(file)
