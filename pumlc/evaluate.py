"""Scores of a run's kept weights on its data: ``python -m pumlc.evaluate RUN [--splits train val test]``.

Writes the folder ``evaluation`` of the run anew, as training does at its end, also for the training images: whole, in
their order, with all their labels and those that the training saw.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from pumlc.engine import DivergedError
from pumlc.engine.console import Console, on_interval, one_line
from pumlc.engine.distributed import World, choose_device
from pumlc.engine.divergence import check_logits
from pumlc.engine.evaluation import logits_of_split
from pumlc.engine.evaluation_files import SPLITS, EvaluatedSplit, update_summary, write_split
from pumlc.engine.judging import KEPT, Fitted, judge_run
from pumlc.engine.log import read_config
from pumlc.engine.precision import choose_precision
from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.setup import evaluation_loader, load_data, use_threads
from pumlc.errors import InputError, MissingPackageError
from pumlc.nn.pretrained import read_metadata

CLASSES_SHOWN = 30


def evaluate(
    run: Path, splits: Sequence[str] | None = None, data: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate the kept weights on some splits and put what comes out into the run folder.

    Args:
        run: folder of a run that has finished an epoch.
        splits: of train, val and test; by default all that the data has.
        data: where the data of the run is now, if it has been moved.

    Returns:
        The content of ``evaluation.json``, also of splits that were evaluated before.

    Raises:
        InputError: the run, its data or a split is not there or cannot be read, or the data has other classes.
        DivergedError: a score is not finite.
    """
    config = read_config(run)
    config = dataclasses.replace(config, out=str(run), data=data or config.data)
    world, console = World(choose_device(device)), Console(True)
    threads = use_threads(config.threads, world)
    precision = choose_precision(config.precision, world.device)
    recogniser = load_recogniser(run)
    header = {key: json.loads(value) for key, value in read_metadata(recogniser.path).items()}
    loaded = load_data(config, world)
    by_name = {split.split: split for split in (loaded.splits.train, loaded.splits.val, loaded.splits.test) if split}
    missing = [name for name in splits or () if name not in by_name]
    if missing:
        raise InputError(f"--splits has {missing[0]}, and the data in {config.data} has only {', '.join(by_name)}.")
    names = list(loaded.splits.train.class_names)
    if names != recogniser.class_names:
        raise InputError(
            f"{run} knows {len(recogniser.class_names)} classes ({', '.join(recogniser.class_names[:4])}, …), the data "
            f"in {config.data} has {len(names)} ({', '.join(names[:4])}, …). Give the data of the run with --data."
        )

    model = recogniser.model.to(world.device, memory_format=torch.channels_last)
    kept = []
    for name in SPLITS if splits is None else splits:
        if name not in by_name:
            continue
        dataset = by_name[name]
        loader = evaluation_loader(config, loaded, dataset, world, threads, precision.images)
        with console.bar(f"evaluate {name}", len(loader)) as bar:
            logits = logits_of_split(model, loader, world, autocast=precision.autocast, tick=bar.update)["model"]
        labels = torch.from_numpy(dataset.labels)
        evaluated = EvaluatedSplit(
            logits,
            labels,
            torch.from_numpy(loaded.observed) if name == "train" else labels,
            torch.from_numpy(~loaded.pictures.quarantines[name].bad),
            dataset.paths,
            names,
            name,
            header["weights"],
            header["epoch"],
        )
        check_logits(logits[evaluated.usable])
        write_split(run, evaluated)
        kept.append(evaluated)
    fitted = None
    if "fitted_on" in header:
        fitted = Fitted(recogniser.calibration, recogniser.thresholds, header["fitted_on"])
    return update_summary(run, judge_run(kept, fitted, header.get("selected_on")))


def table(summary: dict[str, Any], splits: Sequence[str]) -> Iterator[str]:
    """Lines for a person on some splits of ``evaluation.json``, and on the classes of the last one."""
    chosen = f"chosen on {summary['selected_on']}" if summary["selected_on"] else "those of the last step"
    fitted_on = summary["fitted_on"]
    yield f"weights: {summary['weights']} of epoch {summary['epoch']}, {chosen}"
    yield f"calibration and thresholds: {f'from {fitted_on}' if fitted_on else 'none'}"
    yield ""
    columns = ("images", "mAP", "95 % interval", "published", "CF1", "OF1", "CF1*", "OF1*", "ECE", "ECE*")
    widths = (7, 7, 18, 10, 7, 7, 7, 7, 7, 7)
    yield _row("split", columns, widths)
    for name in splits:
        entry = summary["splits"][name]
        scores = entry["scores"][KEPT]
        before, after = (scores["reliability"][when] for when in ("before", "after"))
        low, high = scores["mAP_interval"]
        cells = (
            str(entry["images"]),
            _number(scores["mAP"]),
            f"{_number(low)} - {_number(high)}",
            *(_number(scores[key]) for key in ("mAP_published", "CF1", "OF1", "CF1_thresholds", "OF1_thresholds")),
            _number(before["ECE"]),
            _number(after and after["ECE"]),
        )
        yield _row(name, cells, widths)
    yield "in percent; * calibrated, and at the thresholds"
    for name in splits:
        yield from (f"{name}: {remark}" for remark in on_interval(summary["splits"][name]["scores"][KEPT]))
        chosen_here = [what for what in summary["splits"][name]["flattered_by"] if what != "training"]
        if len(chosen_here) < len(summary["splits"][name]["flattered_by"]):
            yield f"{name} is flattered: the network was trained on these very images"
        if chosen_here:
            yield f"{name} is flattered: {', '.join(chosen_here)} were chosen on these very images"
    yield ""
    classes = scores["classes"]
    shown = sorted(classes, key=lambda each: math.inf if each["AP"] is None else each["AP"])[:CLASSES_SHOWN]
    size = max(len(one_line(each["name"])) for each in shown)
    count = f"the {len(shown)} lowest of {len(classes)}" if len(shown) < len(classes) else "lowest first"
    yield f"classes of {name}, {count}"
    columns, widths = ("positives", "negatives", "AP", "published", "ECE", "ECE*"), (10, 10, 8, 10, 8, 8)
    yield _row("class", columns, widths, size)
    for each in shown:
        numbers = (_number(each[key]) for key in ("AP", "AP_published", "ECE", "ECE_calibrated"))
        yield _row(
            one_line(each["name"]), (str(each["positives"]), str(each["known_negatives"]), *numbers), widths, size
        )


def _row(name: str, cells: Sequence[str], widths: Sequence[int], size: int = 5) -> str:
    return f"{name:{size}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pumlc.evaluate", description="Score the weights that a run has kept, on its data."
    )
    parser.add_argument("run", type=Path, help="run folder of train.py")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, help="which to evaluate (default: all that are there)")
    parser.add_argument("--data", help="folder of the run's data, where it has been moved")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    options = parser.parse_args(arguments)
    try:
        summary = evaluate(options.run, options.splits, options.data, options.device)
    except (InputError, MissingPackageError, DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergedError) else 2
    splits = options.splits or [name for name in SPLITS if name in summary["splits"]]
    print("\n".join(table(summary, splits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
