"""Images per second of pumlc.predict against the evaluation of training: same files, network, cores and precision.

    python -m bench.predict [--images FOLDER] [--device cuda] [--out FILE.jsonl]

It first proves that both give the same probabilities, then times whole passes in turns. A small network at a small size
makes what predict does besides (rows of text as they come) as large a part of the work as it can be.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench import bars
from bench.photographs import real_photographs, write_photographs
from bench.timing import append_rows, device_name, results_path
from pumlc.data.loader import EvaluationLoader
from pumlc.engine.distributed import World
from pumlc.engine.evaluation import logits_of_split
from pumlc.engine.precision import choose_precision
from pumlc.engine.recogniser import Recogniser
from pumlc.engine.setup import use_threads
from pumlc.metrics.f1 import THRESHOLD
from pumlc.nn.calibration import Calibration
from pumlc.nn.classifier import Classifier
from pumlc.predict import Options
from pumlc.predict.__main__ import write_predictions
from pumlc.predict.rows import FORMATS

CLASSES = 80
TOLERANCE = 1e-5  # of a probability, beside the digits that a row has


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and how many pictures it sees in a pass."""

    backbone: str
    image_size: int
    images: dict[str, int]  # by device


CASES = (
    Case("resnet10t", 64, {"cpu": 512, "cuda": 8192}),
    Case("resnet50", 224, {"cpu": 128, "cuda": 8192}),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 when a bar is missed (bars.toml)."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=Path, help="folder of JPEG files, searched whole; default: see PUMLC_TEST_DATA, else generated"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="results file to append to; default: bench/results/<device>.jsonl")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        files = real_photographs(options.images)
        source = files[0].parents[1].name if files else "generated 640x480"
        files = files or write_photographs(Path(folder), 64)
        rows = [measure(case, source, files, options) for case in CASES]
    append_rows(options.out or results_path(options.device), options.device, rows)
    named = [{**row, "device": device_name(options.device)} for row in rows]
    return int(bool(bars.missed(named, bars.load())))


def measure(case: Case, source: str, files: list[Path], options: argparse.Namespace) -> dict:
    """Prove equality, then time; prints a line and returns what the results file holds of it."""
    count = case.images[options.device.type]
    paths = [str(path) for path in (files * -(-count // len(files)))[:count]]
    torch.manual_seed(0)
    model = Classifier(case.backbone, CLASSES, image_size=case.image_size, train_all=True).eval()
    names = [f"class {number}" for number in range(CLASSES)]
    thresholds = torch.full((CLASSES,), THRESHOLD)
    recogniser = Recogniser(Path(), model, names, Calibration.identity(CLASSES), thresholds)
    world, precision = World(options.device), choose_precision("auto", options.device)
    model.to(options.device, memory_format=torch.channels_last)
    loader = EvaluationLoader(
        paths,
        np.zeros((count, CLASSES), np.int8),
        batch_size=options.batch_size,
        image_size=case.image_size,
        device=options.device,
        threads=use_threads(None, world),
        dtype=precision.images,
    )

    def evaluate() -> np.ndarray:
        return logits_of_split(model, loader, world, autocast=precision.autocast)["model"].sigmoid().numpy()

    def predict() -> str:
        text = io.StringIO()
        how = Options(options.device, batch_size=options.batch_size)
        write_predictions(
            recogniser, paths, how, FORMATS["jsonl"](text, names, thresholds.numpy()), done=lambda rows: None
        )
        return text.getvalue()

    found = np.array([list(json.loads(line)["classes"].values()) for line in predict().splitlines()])
    difference = float(np.abs(found - evaluate()).max())
    if not difference <= TOLERANCE:
        sys.exit(f"Not the same probabilities: they differ by up to {difference:.2g}, {TOLERANCE:g} allowed.")
    contenders: dict[str, Callable[[], object]] = {"evaluation": evaluate, "predict": predict}
    turns = [{who: count / seconds(work) for who, work in contenders.items()} for _ in range(options.turns)]
    rates = {who: statistics.median(turn[who] for turn in turns) for who in contenders}
    shares = sorted(turn["predict"] / turn["evaluation"] for turn in turns)
    share = statistics.median(shares)
    print(
        f"{case.backbone} at {case.image_size}, {count} pictures of {source}, {precision.name}: "
        f"evaluation {rates['evaluation']:.1f} img/s, predict {rates['predict']:.1f} img/s, "
        f"{share:.2f} of it ({shares[0]:.2f} to {shares[-1]:.2f}); largest difference {difference:.1g}"
    )
    return {
        "benchmark": "predict",
        "files": source,
        "backbone": case.backbone,
        "image_size": case.image_size,
        "batch_size": options.batch_size,
        "precision": precision.name,
        "images": count,
        "images_per_second": {who: round(rate, 1) for who, rate in rates.items()},
        "evaluation_share": round(share, 3),
        "evaluation_share_range": [round(shares[0], 3), round(shares[-1], 3)],
        "difference": difference,
    }


def seconds(work: Callable[[], object]) -> float:
    """Of one whole pass, starting its pipeline included; both end with their results on the CPU."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
