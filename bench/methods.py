"""python -m bench.methods --data FOLDER --labels single-positive: every method on the same incomplete labels.

Every row is trained from random weights, with several seeds; cross-entropy with all labels is the ceiling. Appends to
bench/results/methods.jsonl, from which bench.table makes the README's table.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch

from bench.timing import RESULTS, append_rows
from bench.trials import Row, compare, mean_and_deviation, parse

RESULTS_FILE = RESULTS / "methods.jsonl"
SINGLE_POSITIVE = "single-positive"
CEILING = "an with all labels"


class Described(NamedTuple):
    """A method as a person chooses it."""

    name: str
    flags: str  # beside --method, where the published values are not the defaults
    assumes: str
    use: str
    presets: str = ""

    def row(self) -> Row:
        return Row(self.name, ("--method", self.name.split()[0], *self.flags.split()))


METHODS = (
    Described("an", "", "unknown is negative", "few positives are missing; the baseline"),
    Described("ignore", "", "nothing of what is unknown", "negatives are labelled too"),
    Described("wan", "", "unknown is negative, C - 1 times less surely", "one positive per image"),
    Described("ls", "", "each label is wrong with a small probability", "noise in both directions"),
    Described("focal", "", "what is easy teaches nothing", "rare classes"),
    Described("asl", "", "easy negatives teach nothing, and very hard ones are wrong", "many classes", "`asl-coco14`"),
    Described("hill", "", "very hard negatives are wrong", "many positives are missing"),
    Described("splc", "", "as hill, and what the network is sure of is positive", "many positives are missing"),
    Described("em", "", "what is unknown stays undecided", "one positive per image"),
    Described("gr", "", "unknown is positive as likely as the network says", "one positive per image"),
    Described(
        "pu-mlc",
        "",
        "positives are a sample of their class; nothing of what is unknown",
        "labels are missing at random",
        "`pumlc-coco14`, `pumlc-voc07`",
    ),
    Described(
        "ll-r", "--delta-rel 0.4", "the largest losses on unknown labels are of positives", "as hill", "`ll-r-…`"
    ),
    Described("ll-ct", "", "as ll-r", "as hill", "`ll-ct-…`"),
    Described("ll-cp", "", "as ll-r", "as hill, and a person will check what was found", "`ll-cp-…`"),
    Described(
        "ll-r + BoostLU", "--delta-rel 0.4 --boost 5", "as ll-r", "as ll-r, where parts of objects tell the class"
    ),
    Described(
        "mile",
        "--mile-k1 86 --mile-k2 86",  # two epochs each of the scenes
        "a network that is not yet fitted sees what was not labelled",
        "one label per image, several true",
        "`mile-imagenet`",
    ),
    Described("epr", "--expected-positives 1.25", "how many positives images have", "one positive per image"),
    Described("role", "--expected-positives 1.25", "as epr, and labels can be learned", "one positive per image"),
)
"""In the order of the table."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.methods", description=__doc__.splitlines()[0])
    parser.add_argument("--labels", required=True, help=f"{SINGLE_POSITIVE}, or the share of the labels: 0.3")
    parser.add_argument("--methods", nargs="+", choices=[CEILING, *(each.name for each in METHODS)], help="some alone")
    options = parse(parser, arguments, RESULTS_FILE, [1e-3])
    settings = {name: getattr(options, name) for name in ("backbone", "image_size", "epochs")}
    shared = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    shared += ["--data", str(options.data)]
    single = options.labels == SINGLE_POSITIVE
    dropped = ("--single-positive",) if single else ("--prob", options.labels)

    rows = [Row(CEILING, ("--method", "an"))]
    for method in METHODS:
        name, flags = method.row()
        rows.append(Row(f"{name}, {options.labels}", (*flags, *dropped)))
    wanted = options.methods or [CEILING, *(each.name for each in METHODS)]
    rows = [row for row in rows if row.name in wanted or row.name.rpartition(", ")[0] in wanted]
    for result in compare(rows, shared, options.runs, options.rates, options.seeds):
        labels = "all" if result["row"] == CEILING else options.labels
        row = {"benchmark": "methods", "data": options.data.name, "labels": labels, **settings, **result}
        append_rows(options.out, torch.device("cpu"), [row])
        print(
            f"{result['row']}: test mAP {mean_and_deviation(result['test_mAP'])}, "
            f"{result['images_per_second']:.0f} img/s, {result['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
