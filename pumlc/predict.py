"""Classes and probabilities of pictures: ``python -m pumlc.predict RUN IMAGE… [--json]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pumlc.data.loader import EvaluationLoader
from pumlc.engine.distributed import World, choose_device
from pumlc.engine.evaluation import logits_of_split
from pumlc.engine.recogniser import Recogniser, load_recogniser
from pumlc.errors import InputError, MissingPackageError
from pumlc.metrics.f1 import THRESHOLD

BATCH_SIZE = 32


def predict(recogniser: Recogniser, images: Sequence[Path], device: torch.device) -> np.ndarray:
    """Probabilities [N, C] float32 of N pictures, prepared as in evaluation.

    Raises:
        InputError: a picture is missing or cannot be decoded; the message names it.
    """
    for image in images:
        if not image.is_file():
            raise InputError(f"There is no picture {image}.")
    loader = EvaluationLoader(
        [str(image) for image in images],
        np.zeros((len(images), len(recogniser.class_names)), np.int8),
        batch_size=min(BATCH_SIZE, len(images)),
        image_size=recogniser.model.image_size,
        device=device,
    )
    model = recogniser.model.to(device, memory_format=torch.channels_last)
    return logits_of_split(model, loader, World(device))["model"].sigmoid().numpy()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pumlc.predict", description="Name what is in pictures.")
    parser.add_argument("run", type=Path, help="run folder of train.py, or a best.safetensors")
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help="picture files")
    parser.add_argument("--json", action="store_true", help="print a JSON list with every class of every picture")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="lowest probability shown (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    options = parser.parse_args(arguments)
    try:
        recogniser = load_recogniser(options.run)
        probabilities = predict(recogniser, options.images, choose_device(options.device))
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        rows = [
            {"image": str(image), "classes": dict(zip(recogniser.class_names, map(float, row), strict=True))}
            for image, row in zip(options.images, probabilities, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    for image, row in zip(options.images, probabilities, strict=True):
        shown = [c for c in np.argsort(-row) if row[c] >= options.threshold]
        most_likely = int(row.argmax())
        text = ", ".join(f"{recogniser.class_names[c]} {row[c]:.3f}" for c in shown)
        nothing = (
            f"nothing above {options.threshold:g} (most: {recogniser.class_names[most_likely]} {row[most_likely]:.3f})"
        )
        print(f"{image}: {text or nothing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
