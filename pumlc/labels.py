"""Labels that a run has changed: ``python -m pumlc.labels diff RUN``, for a person to check."""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pumlc.engine.checkpoint import load_checkpoint
from pumlc.engine.distributed import World
from pumlc.engine.log import read_config
from pumlc.engine.setup import load_data
from pumlc.errors import InputError, MissingPackageError


class Edit(NamedTuple):
    """A label that was unknown and became positive."""

    image: str  # the file
    label: str  # name of the class
    epoch: int  # at whose end that was, counted from 1
    probability: float  # of the class, as the network saw it then
    truth: str  # positive, negative or unknown, as annotated


def edits(run: Path) -> Iterator[Edit]:
    """What a run has changed until its last checkpoint, in the order of epochs, images and classes.

    Reads the data set again, which the settings of the run name.

    Raises:
        InputError: ``run`` is no run folder, or of a method that changes no labels; it has no checkpoint; the data set
            is not there.
    """
    config = read_config(run)
    if config.method != "ll-cp":
        raise InputError(f"The run {run} is of --method {config.method}, which changes no labels; ll-cp does.")
    _, state = load_checkpoint(run / "checkpoints")
    train = load_data(config, World(torch.device("cpu"))).splits.train
    if list(train.class_names) != state["class_names"]:
        raise InputError(f"{config.data} does not have the classes of {run}. Give the data that it was trained on.")
    table = state["method"]["store"]["edits"]
    truths = {1: "positive", 0: "unknown", -1: "negative"}
    for row, label, epoch, probability in zip(*(column.tolist() for column in table.values()), strict=True):
        truth = truths[int(train.labels[row, label])]
        yield Edit(str(train.paths[row]), train.class_names[label], epoch, probability, truth)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pumlc.labels", description="What a run did to its labels.")
    commands = parser.add_subparsers(dest="command", required=True)
    diff = commands.add_parser(
        "diff", help="list the labels that --method ll-cp made positive", description="Prints a table in CSV."
    )
    diff.add_argument("run", type=Path, help="run folder of train.py")
    options = parser.parse_args(arguments)
    try:
        found = list(edits(options.run))
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("image", "class", "epoch", "probability", "annotated as"))
    for edit in found:
        table.writerow((edit.image, edit.label, edit.epoch, f"{edit.probability:.4f}", edit.truth))
    print(summary(found), file=sys.stderr)
    return 0


def summary(found: Sequence[Edit]) -> str:
    """One sentence on the edits, and how many of them the complete annotation agrees with."""
    truths = Counter(edit.truth for edit in found)
    agreeing = f"; of these, {truths['positive']} are annotated as positive, {truths['negative']} as negative"
    return f"{len(found)} labels became positive" + (agreeing if found else "")


if __name__ == "__main__":
    sys.exit(main())
