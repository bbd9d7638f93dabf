"""python -m bench.ablation --data FOLDER: what each part of PU-MLC adds, from the baseline to the full recipe.

Every row is trained from random weights at 30 % of the labels, with the learning rate that is best on val, and with
several seeds (the labels that are dropped are the same). Appends to bench/results/ablation.jsonl, from which
bench.table makes the README's table.
"""

from __future__ import annotations

import argparse

import torch

from bench.timing import RESULTS, append_rows
from bench.trials import Row, compare, mean_and_deviation, parse

RESULTS_FILE = RESULTS / "ablation.jsonl"
ROWS = (
    Row("assume negative, BCE", ("--method", "an")),
    Row("PU loss", ()),
    Row("+ mixup", ("--mixup", "1")),
    Row("+ local-global convolutions", ("--mixup", "1", "--local-global")),
    Row("+ full head", ("--recipe", "full")),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--prob", type=float, default=0.3, help="share of the labels (default: %(default)s)")
    options = parse(parser, arguments, RESULTS_FILE, [3e-4, 1e-3, 3e-3])

    settings = {name: getattr(options, name) for name in ("prob", "backbone", "image_size", "epochs")}
    shared = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    shared += ["--data", str(options.data)]
    rows = []
    for result in compare(ROWS, shared, options.runs, options.rates, options.seeds):
        rows.append({"benchmark": "ablation", "data": options.data.name, **settings, **result})
        print(f"{result['row']}: test mAP {mean_and_deviation(result['test_mAP'])}, lr {result['lr']:g}", flush=True)
    append_rows(options.out, torch.device("cpu"), rows)


if __name__ == "__main__":
    main()
