"""python -m bench.ablation --data FOLDER: what each part of PU-MLC adds, from the baseline to the full recipe.

Every row is trained from random weights at 30 % of the labels, with the learning rate that is best on val, and with
several seeds (the labels that are dropped are the same). Appends to bench/results/ablation.jsonl, from which
bench.table makes the README's table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench.timing import RESULTS, append_rows
from bench.trials import Row, compare, mean_and_deviation

RESULTS_FILE = RESULTS / "ablation.jsonl"
KEPT = ("row", "flags", "lr", "seeds", "val_mAP", "test_mAP", "val_mAP_of_rates")  # hours may pass: no speeds
ROWS = (
    Row("assume negative, BCE", ("--method", "an")),
    Row("PU loss", ()),
    Row("+ mixup", ("--mixup", "1")),
    Row("+ local-global convolutions", ("--mixup", "1", "--local-global")),
    Row("+ full head", ("--recipe", "full")),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv: splits train, val and test")
    parser.add_argument("--prob", type=float, default=0.3, help="share of the labels (default: %(default)s)")
    parser.add_argument("--backbone", default="resnet10t", help="timm model (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=96, help="pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3], help="learning rates to try")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two (default: 0 1 2)")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder for the runs")
    parser.add_argument("--out", type=Path, default=RESULTS_FILE, help="results file to append to")
    options = parser.parse_args(arguments)
    if len(options.seeds) < 2:
        parser.error("--seeds: a deviation needs at least two")

    settings = {name: getattr(options, name) for name in ("prob", "backbone", "image_size", "epochs")}
    shared = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    shared += ["--data", str(options.data)]
    rows = []
    for result in compare(ROWS, shared, options.runs, options.rates, options.seeds):
        rows.append({"benchmark": "ablation", "data": options.data.name, **settings, **{k: result[k] for k in KEPT}})
        print(f"{result['row']}: test mAP {mean_and_deviation(result['test_mAP'])}, lr {result['lr']:g}", flush=True)
    append_rows(options.out, torch.device("cpu"), rows)


if __name__ == "__main__":
    main()
