"""Images per second of TrainLoader against torchvision's DataLoader with Pillow: same files, regions and cores.

    python -m bench.data [--images FOLDER] [--device cuda] [--out FILE.jsonl]

It first proves that both produce the same pictures, then times whole epochs in turns (A B C, A B C, ...) and prints
the median and the range of the ratios within a turn: on a busy machine only those mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from bench import bars
from bench.data_baseline import PillowDataset, pillow_loader
from bench.photographs import real_photographs, write_photographs
from bench.timing import device_name, results_path
from pumlc.data.augmentation import Augmentation, plan_epoch
from pumlc.data.loader import TrainLoader
from pumlc.data.pipeline import STD

IMAGES = 256
"""Images per epoch; a smaller set of files is repeated."""

ONE_RESAMPLE, TWO_RESAMPLES = 1.0, 6.0
"""Largest mean absolute difference, in grey levels of 255, that counts as the same picture. Two resamples blur more
than one, and TrainLoader rounds regions to whole pixels: 3 to 5 are seen. Another region or flip makes 20 and more."""


def main(arguments: list[str] | None = None) -> int:
    """Measure on generated photographs and on real ones where there are some; 1 when a bar is missed (bars.toml)."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", type=Path, help="folder of JPEG files, searched whole; default: see PUMLC_TEST_DATA"
    )
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where batches come out")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="threads, and workers")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, help="results file to append to; default: bench/results/<device>.jsonl")
    options = parser.parse_args(arguments)
    options.out = options.out or results_path(options.device)

    real = real_photographs(options.images)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        results.append(compare("generated 640x480", write_photographs(Path(folder), 64), options))
        if real:
            results.append(compare(real[0].parents[1].name, real, options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)
    return int(bool(bars.missed(results, bars.load())))


def compare(name: str, files: list[Path], options: argparse.Namespace) -> dict:
    """Prove equality on ``files``, then time; prints a table and returns what the JSON line holds."""
    paths = (files * -(-IMAGES // len(files)))[:IMAGES]
    augmentation = Augmentation()
    loader = TrainLoader(
        paths,
        np.zeros((len(paths), 1), dtype=np.int8),
        batch_size=options.batch_size,
        augmentation=augmentation,
        device=options.device,
        threads=options.cores,
    )
    plan = plan_epoch(augmentation, len(paths), seed=loader.seed, epoch=0)
    published, one_resample = (
        pillow_loader(
            PillowDataset(paths, augmentation, plan, one_resample=one_resample),
            batch_size=options.batch_size,
            workers=options.cores,
        )
        for one_resample in (False, True)
    )
    kilobytes = statistics.mean(path.stat().st_size for path in files) / 1000
    print(f"{name}: {len(files)} files of {kilobytes:.0f} kB, {options.cores} cores, batches of {options.batch_size}")
    differences = [
        same_pictures((batch.images for batch in loader.epoch(0)), baseline, limit)
        for baseline, limit in ((published, TWO_RESAMPLES), (one_resample, ONE_RESAMPLE))
    ]

    contenders: dict[str, Callable[[], Iterable]] = {
        "TrainLoader": lambda: loader.epoch(0),
        "torchvision, as published": lambda: published,
        "torchvision, one resample": lambda: one_resample,
    }
    turns = [
        {who: images_per_second(epoch, options) for who, epoch in contenders.items()} for _ in range(options.turns)
    ]
    medians = {who: statistics.median(turn[who] for turn in turns) for who in contenders}
    ratios = {who: sorted(turn["TrainLoader"] / turn[who] for turn in turns) for who in contenders}
    for who in contenders:
        low, middle, high = ratios[who][0], statistics.median(ratios[who]), ratios[who][-1]
        factor = "" if who == "TrainLoader" else f"    TrainLoader is {middle:.2f} x ({low:.2f} to {high:.2f})"
        print(f"  {who:26} {medians[who]:7.1f} img/s{factor}")
    print(f"  mean difference in grey levels: {differences[0]:.2f} as published, {differences[1]:.2f} one resample")
    return {
        "benchmark": "data",
        "files": name,
        "device": device_name(options.device),
        "cores": options.cores,
        "batch_size": options.batch_size,
        "images_per_second": {who: round(rate, 1) for who, rate in medians.items()},
        "ratio": round(statistics.median(ratios["torchvision, as published"]), 2),
        "ratio_range": [round(ratios["torchvision, as published"][end], 2) for end in (0, -1)],
        "difference": round(differences[0], 3),
        "versions": {
            package: version(package) for package in ("torch", "torchvision", "pillow", "nvidia-dali-cuda130")
        },
    }


def same_pictures(images: Iterable[torch.Tensor], others: Iterable[torch.Tensor], limit: float) -> float:
    """Mean absolute difference over an epoch in grey levels; ends the program if any batch exceeds the limit."""
    grey = 255 * torch.tensor(STD)[:, None, None]
    differences = [float(((a.cpu() - b).abs() * grey).mean()) for a, b in zip(images, others, strict=True)]
    if max(differences) > limit:
        sys.exit(f"Not the same pictures: a batch differs by {max(differences):.2f} grey levels, {limit} allowed.")
    return statistics.mean(differences)


def images_per_second(epoch: Callable[[], Iterable], options: argparse.Namespace) -> float:
    """One whole epoch, filling the queues included."""
    began = time.perf_counter()
    steps = sum(1 for _ in epoch())
    if options.device.type == "cuda":
        torch.cuda.synchronize(options.device)
    return steps * options.batch_size / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
