"""What a person or a program has to know about an exported model; it lies in the file."""

from __future__ import annotations

import json
from typing import Any

import pumlc
from pumlc.engine.recogniser import Recogniser
from pumlc.nn.pretrained import read_metadata

INPUT = (
    "images: uint8 [batch, height, width, 3], RGB, 0 to 255, upright (apply EXIF orientation), of any size; resized "
    "and normalised inside"
)
OUTPUT = (
    "probabilities: float32 [batch, classes], calibrated; logits: float32 [batch, classes], of which they are the "
    "sigmoid"
)


def of_graph(recogniser: Recogniser) -> dict[str, Any]:
    """For a graph."""
    return {
        "class_names": recogniser.class_names,
        "thresholds": recogniser.thresholds.tolist(),
        "image_size": recogniser.model.image_size,
        "backbone": recogniser.model.backbone_name,
        "input": INPUT,
        "output": OUTPUT,
        "pumlc": pumlc.__version__,
    }


def of_weights(recogniser: Recogniser) -> dict[str, Any]:
    """For weights: what the run had written beside them, and that they are merged."""
    header = {key: json.loads(value) for key, value in read_metadata(recogniser.path).items()}
    return header | {"inference_form": True, "pumlc": pumlc.__version__}
