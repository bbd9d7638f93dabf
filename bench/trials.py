"""Whole training runs that are compared: rows of flags, the learning rate of each chosen on val, several seeds."""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pumlc.engine.log import read_events

TRAIN = Path(__file__).parents[1] / "train.py"
FINISHED, DIVERGED = 0, 1  # exit statuses of train.py


class Row(NamedTuple):
    name: str
    flags: tuple[str, ...]
    """Of train.py, on top of those that all rows share."""


class Trial(NamedTuple):
    """A finished run; mAP in percent, both with the weights that were best on val."""

    val: float
    test: float
    images_per_second: float
    seconds: float


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, results: Path, rates: Sequence[float]
) -> argparse.Namespace:
    """The options of a comparison, with its default results file and learning rates."""
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv: splits train, val and test")
    parser.add_argument("--backbone", default="resnet10t", help="timm model (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=96, help="pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=rates, help="learning rates (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two (default: 0 1 2)")
    parser.add_argument("--runs", type=Path, default=Path("runs") / results.stem, help="folder for the runs")
    parser.add_argument("--out", type=Path, default=results, help="results file to append to")
    options = parser.parse_args(arguments)
    if len(options.seeds) < 2:
        parser.error("--seeds: a deviation needs at least two")
    return options


def compare(rows: Sequence[Row], shared: Sequence[str], runs: Path, rates: Sequence[float], seeds: Sequence[int]):
    """Train every row and yield what a results file holds of it, as soon as it is known.

    Each row's learning rate is the one whose run with the first seed has the best mAP on val; the other seeds are
    trained with it. Runs lie in the folder ``runs``: one that is finished there is not trained again, and one that was
    interrupted goes on.

    Raises:
        SystemExit: a run fails, or diverges with every rate.
    """
    for row in rows:
        tried = {}
        for rate in rates:
            trial = train(row, shared, runs, rate, seeds[0])
            if trial is not None:
                tried[rate] = trial
        if not tried:
            raise SystemExit(f"{row.name} diverges with every learning rate of {', '.join(f'{r:g}' for r in rates)}")
        best = max(tried, key=lambda rate: tried[rate].val)
        trials = [tried[best], *(train(row, shared, runs, best, seed) for seed in seeds[1:])]
        if None in trials:
            raise SystemExit(f"{row.name} diverges at {best:g} with seed {seeds[trials.index(None)]}")
        yield {
            "row": row.name,
            "flags": " ".join(row.flags),
            "lr": best,
            "seeds": list(seeds),
            "val_mAP": [trial.val for trial in trials],
            "test_mAP": [trial.test for trial in trials],
            "images_per_second": statistics.median(trial.images_per_second for trial in trials),
            "seconds": statistics.median(trial.seconds for trial in trials),
            "val_mAP_of_rates": {f"{rate:g}": trial.val for rate, trial in tried.items()},
        }


def train(row: Row, shared: Sequence[str], runs: Path, rate: float, seed: int) -> Trial | None:
    """One run; None where it diverges."""
    run = runs / f"{re.sub('[^a-z0-9]+', '-', row.name.lower()).strip('-')}-{rate:g}-seed{seed}"
    settings = ["csv", *shared, *row.flags, "--lr", f"{rate:g}", "--seed", str(seed), "--out", str(run)]
    end = read_end(run)
    if end is None:
        started = any((run / "checkpoints").glob("*.pt"))
        if not started:
            shutil.rmtree(run, ignore_errors=True)
        words = ["--resume", str(run)] if started else settings
        print(f"# train.py {' '.join(words)}", flush=True)
        status = subprocess.run([sys.executable, str(TRAIN), *words], stdout=subprocess.DEVNULL).returncode
        if status == DIVERGED:
            return None
        if status != FINISHED:
            raise SystemExit(f"train.py {' '.join(words)}: exit status {status}")
        end = read_end(run)
    return Trial(end["best_on_val"]["mAP"], end["mAP"], end["images_per_second"], end["seconds"])


def read_end(run: Path) -> dict | None:
    """The last event of a finished run's log; None for another."""
    try:
        events = [event for event in read_events(run) if event["event"] == "end"]
    except FileNotFoundError:
        return None
    return events[-1] if events else None


def mean_and_deviation(values: Sequence[float]) -> str:
    """Of at least two numbers, with the deviation of a sample."""
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"


def as_good_as_the_best(rows: Iterable[dict]) -> tuple[str, list[str]]:
    """The best row by test mAP, and those that it beats by less than a deviation, best first."""
    best, *others = sorted(rows, key=lambda row: -statistics.fmean(row["test_mAP"]))

    def is_close(row: dict) -> bool:
        gap = statistics.fmean(best["test_mAP"]) - statistics.fmean(row["test_mAP"])
        return gap < max(statistics.stdev(each["test_mAP"]) for each in (best, row))

    return best["row"], [row["row"] for row in others if is_close(row)]


def undecided(rows: Iterable[dict]) -> list[str]:
    """A sentence for every row that its neighbour in the ranking by test mAP beats by less than a deviation."""
    ranked = sorted(rows, key=lambda row: -statistics.fmean(row["test_mAP"]))
    sentences = []
    for better, worse in itertools.pairwise(ranked):
        gap = statistics.fmean(better["test_mAP"]) - statistics.fmean(worse["test_mAP"])
        deviation = max(statistics.stdev(row["test_mAP"]) for row in (better, worse))
        if gap < deviation:
            sentences.append(
                f"{better['row']} against {worse['row']}: {gap:.1f} points, less than the deviation of {deviation:.1f} "
                "between seeds, so their order is not decided."
            )
    return sentences
