"""python -m bench.train_step: images per second of the trainer's own step, from one cached batch and from JPEG files.

The step is Trainer.train_step: forward, loss, backward, optimiser, moving average and the watch for a bad loss. The
cached batch shows what the step alone does, the files what is left of it when the input pipeline works beside it. By
default: ResNet-101 at 448 pixels, every layer trained, in the precision that the trainer would choose.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from bench.photographs import real_photographs, write_photographs
from bench.timing import Timing, append_rows, results_path
from pumlc.data.loader import Batch
from pumlc.engine.config import Config
from pumlc.engine.distributed import World, choose_device
from pumlc.engine.presets import PRESETS, RECIPES
from pumlc.engine.trainer import Trainer
from pumlc.errors import InputError, MissingPackageError

T = TypeVar("T")

FULL_RECIPE = PRESETS["pumlc-coco14"].config
RECIPE = dataclasses.replace(FULL_RECIPE, recipe="loss", **RECIPES["loss"])
LARGE_BATCHES = (256, 128, 64)
"""Images per step on a GPU, tried before the recipe's batch: the first that fits is measured."""
CLASSES, POSITIVES = 80, 2.9  # of COCO; positive labels per image
WARM_UP = 5  # steps; cuDNN tries its algorithms in the first
STEPS_OF_DATA = 8  # an epoch of the files, so that its end is measured too


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        device = choose_device(options.device)
        sizes = options.batch_size or (*(LARGE_BATCHES if device.type == "cuda" else ()), RECIPE.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            rows = first_that_fits(sizes, lambda size: measure(options, device, size, Path(folder) / str(size)))
    except InputError as error:
        sys.exit(f"error: {error}")
    if not options.no_save:
        append_rows(options.out or results_path(device), device, rows)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.train_step", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--backbone", default=RECIPE.backbone, help="name of a timm model (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=RECIPE.image_size, help="pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, nargs="+", help="images per step; of several the first that fits")
    parser.add_argument("--recipe", choices=list(RECIPES), default="loss", help="as train.py's (default: %(default)s)")
    parser.add_argument("--frozen", action="store_true", help="train the last stage and the head alone, as published")
    parser.add_argument("--steps", type=int, default=10, help="steps per sample (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=3, help="at least 2 (default: %(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print alone")
    parser.add_argument("--out", type=Path, help="results file to append to; default: bench/results/<device>.jsonl")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, device: torch.device, batch_size: int, folder: Path) -> list[dict]:
    """A row for the cached batch and one for the files, where DALI is installed; prints what it finds."""
    trainer = build_trainer(FULL_RECIPE if options.recipe == "full" else RECIPE, options, device, batch_size, folder)
    trainer.wrapped.train()
    rows = []
    for source, batches in (("cached", itertools.repeat(random_batch(trainer))), ("files", from_files(trainer))):
        try:
            rows.append(measure_source(trainer, source, batches, options))
        except MissingPackageError as error:
            print(f"{source}: skipped. {error}", flush=True)
    return rows


def measure_source(trainer: Trainer, source: str, batches: Iterator[Batch], options: argparse.Namespace) -> dict:
    """Time the steps on these batches; prints and returns what a results file holds of them."""
    device, config = trainer.world.device, trainer.config
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    timing = time_steps(
        lambda: trainer.train_step(next(batches), 0), device=device, steps=options.steps, samples=options.samples
    )
    row = {
        "benchmark": "train_step",
        "input": source,
        "backbone": config.backbone,
        "image_size": config.image_size,
        "recipe": config.recipe,
        "train_all": config.train_all,
        "batch_size": config.batch_size,
        "precision": trainer.precision.name,
        "images_per_second": config.batch_size / timing.median,
        "spread": timing.spread,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }
    memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 1e9:.1f} GB at the peak"
    print(
        f"{config.recipe}, {config.backbone}, {config.image_size} px, "
        f"{'all layers' if config.train_all else 'last stage'}, "
        f"batches of {config.batch_size}, {row['precision']}, {source}: {row['images_per_second']:.1f} img/s "
        f"(spread {timing.spread:.1%}), {1e3 * timing.median:.1f} ms per step{memory}",
        flush=True,
    )
    return row


def time_steps(step: Callable[[], object], *, device: torch.device, steps: int, samples: int) -> Timing:
    """Wall time of a step, over samples of several steps each with one wait for the device at its end."""
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(samples):
        _wait(device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(device)
        seconds.append((time.perf_counter() - start) / steps)
    return Timing.of(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def first_that_fits(sizes: Sequence[int], attempt: Callable[[int], T]) -> T:
    """The result of the first batch size that does not run out of a GPU's memory; the last one's error is raised."""
    for size in sizes[:-1]:
        try:
            return attempt(size)
        except torch.OutOfMemoryError:
            print(f"batches of {size} do not fit in the memory of the GPU", flush=True)
        # outside the handler: the error's traceback holds the tensors of the attempt
        gc.collect()
        torch.cuda.empty_cache()
    return attempt(sizes[-1])


def build_trainer(
    recipe: Config, options: argparse.Namespace, device: torch.device, batch_size: int, folder: Path
) -> Trainer:
    """The trainer of a recipe for COCO, from random weights, on photographs with labels drawn at random."""
    folder.mkdir()
    write_table(folder, real_photographs() or write_photographs(folder, 16), STEPS_OF_DATA * batch_size)
    config = dataclasses.replace(
        recipe,
        data=str(folder),
        layout="csv",
        prob=1.0,
        weights="none",
        backbone=options.backbone,
        image_size=options.image_size,
        batch_size=batch_size,
        train_all=not options.frozen,
        out=str(folder / "run"),
    )
    config.check()
    return Trainer(config, World(device))


def write_table(folder: Path, files: Sequence[Path], images: int) -> None:
    """labels.csv with this many images, which are links to the files in turn, and positives as frequent as COCO's."""
    shown = np.random.default_rng(0).random((images, CLASSES)) < POSITIVES / CLASSES
    with (folder / "labels.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["image", "split", *(f"class {number}" for number in range(CLASSES))])
        for number, (file, labels) in enumerate(zip(itertools.cycle(files), shown.astype(int), strict=False)):
            link = folder / f"image_{number}.jpg"
            link.symlink_to(file.resolve())
            writer.writerow([link.name, "train", *labels])


def random_batch(trainer: Trainer) -> Batch:
    """Normalised noise in place of pictures, with the loader's first labels: needs no decoder."""
    device, config = trainer.world.device, trainer.config
    size = (config.batch_size, 3, config.image_size, config.image_size)
    images = torch.randn(size, device=device, dtype=trainer.precision.images)
    index = torch.arange(config.batch_size, device=device)
    return Batch(images.contiguous(memory_format=torch.channels_last), trainer.loader.labels[index], index)


def from_files(trainer: Trainer) -> Iterator[Batch]:
    """The loader's batches, one epoch after the other."""
    for epoch in itertools.count():
        yield from trainer.loader.epoch(epoch)


if __name__ == "__main__":
    sys.exit(main())
