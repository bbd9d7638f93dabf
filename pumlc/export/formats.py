"""The formats of exported models: how each is written, and how whoever gets the file predicts with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pumlc.data.picture import read_picture
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.recogniser import Recogniser, load_recogniser
from pumlc.errors import require
from pumlc.export.graph import INPUT, OUTPUTS, write_onnx, write_program
from pumlc.export.metadata import of_weights
from pumlc.nn.inference_form import inference_form
from pumlc.predict import Options, predict


class Format(NamedTuple):
    """One of them."""

    suffix: str  # of its files
    write: Callable[[Recogniser, Path], None]  # merges the model of the recogniser in place
    predict: Callable[[Path, Sequence[Path]], np.ndarray]  # file, N pictures that can be read -> [N, C] float32
    needs: str  # whoever uses the file


def write_weights(recogniser: Recogniser, path: Path) -> None:
    """The inference form as a safetensors file, for :func:`pumlc.engine.recogniser.load_recogniser`."""
    header = of_weights(recogniser)
    save_weights(path, inference_form(recogniser.model).state_dict(), header)


def _predict_with_onnx(path: Path, pictures: Sequence[Path]) -> np.ndarray:
    session = require("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([OUTPUTS[0]], {INPUT: _pixels(picture)})[0] for picture in pictures])


@torch.inference_mode()
def _predict_with_program(path: Path, pictures: Sequence[Path]) -> np.ndarray:
    module: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.export.load(path).module()
    return torch.cat([module(torch.from_numpy(_pixels(picture)))[0] for picture in pictures]).numpy()


def _predict_with_weights(path: Path, pictures: Sequence[Path]) -> np.ndarray:
    return predict(load_recogniser(path), pictures, Options(torch.device("cpu"), "fp32"))


def _pixels(picture: Path) -> np.ndarray:
    """[1, H, W, 3] uint8, as a program without this package gets them from Pillow."""
    return np.array(read_picture(picture))[None]


FORMATS = {
    "onnx": Format(".onnx", write_onnx, _predict_with_onnx, "onnxruntime alone"),
    "torch-export": Format(".pt2", write_program, _predict_with_program, "torch alone: torch.export.load(…).module()"),
    "safetensors": Format(
        ".safetensors", write_weights, _predict_with_weights, "pumlc: python -m pumlc.predict, or load_recogniser"
    ),
}
