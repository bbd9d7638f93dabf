"""A trained model, from the one file that a run leaves of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch

from pumlc.errors import InputError
from pumlc.metrics.f1 import THRESHOLD
from pumlc.nn import PUMLC
from pumlc.nn.backbone import BackboneNetwork
from pumlc.nn.calibration import Calibration
from pumlc.nn.classifier import Classifier
from pumlc.nn.inference_form import inference_form
from pumlc.nn.pretrained import load_weights, read_metadata, read_tensors

HEADS = {"linear": Classifier, "full": PUMLC}


class Recogniser(NamedTuple):
    """C classes, by name, and what it takes to find them in pictures."""

    path: Path  # of the weights
    model: BackboneNetwork  # in evaluation mode, on the CPU
    class_names: list[str]
    calibration: Calibration  # of its logits; changes nothing where none was fitted
    thresholds: torch.Tensor  # [C] float64, the calibrated probability from which on a class is said to be there


def load_recogniser(run: Path) -> Recogniser:
    """The model in a run folder's ``best.safetensors``, or in a file of that kind; raises InputError.

    The file holds all that it takes. Where it holds the inference form of a model, as ``pumlc.export`` writes it, so
    does what is returned.
    """
    path = run / "best.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"There are no weights {path}. Give a run folder that has finished an epoch.")
    metadata = read_metadata(path)
    try:
        names, backbone, size = (json.loads(metadata[key]) for key in ("class_names", "backbone", "image_size"))
        local_global = json.loads(metadata.get("local_global", "false"))
        network = HEADS[json.loads(metadata.get("head", '"linear"'))]
        boost = json.loads(metadata.get("boost", "1"))
        is_merged = json.loads(metadata.get("inference_form", "false"))
        fitted = json.loads(metadata.get("calibration", "null"))
        thresholds = json.loads(metadata.get("thresholds", "null")) or [THRESHOLD] * len(names)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} was not written by train.py: its header lacks {error}.") from error
    options = {} if boost == 1 else {"boost": boost}  # of the linear head alone
    model = network(backbone, len(names), image_size=size, train_all=True, local_global=local_global, **options)
    if is_merged:
        _load_merged(inference_form(model.eval()), path)
    else:
        load_weights(model, str(path))
    calibration = Calibration.identity(len(names))
    if fitted is not None:
        calibration = Calibration(torch.tensor(fitted["temperature"]), torch.tensor(fitted["bias"]))
    return Recogniser(path, model.eval(), names, calibration.eval(), torch.tensor(thresholds, dtype=torch.float64))


def _load_merged(model: BackboneNetwork, path: Path) -> None:
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:  # of another version of the backbone
        raise InputError(f"{path} does not fit {model.backbone_name}: {str(error).splitlines()[-1].strip()}") from error
