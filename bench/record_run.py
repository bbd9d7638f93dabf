"""python -m bench.record_run RUN [--plot FILE.svg]: keep what a training run reached, and draw its course.

Appends the settings that matter and the last event of RUN/log.jsonl to bench/results/runs.jsonl, from which
bench.table makes the README's accuracy table.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from bench.timing import RESULTS
from pumlc.engine.log import read_events

SETTINGS = ("layout", "prob", "single_positive", "backbone", "image_size", "epochs", "batch_size", "lr", "seed")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 260, 56, 56, 24, 40


def record(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    events = read_events(run)
    if events[-1]["event"] != "end":
        raise SystemExit(f"{run} has not finished: its last event is {events[-1]['event']!r}")
    end = {key: events[-1][key] for key in ("split", "mAP", "mAP_last", "CF1", "OF1", "images_per_second", "seconds")}
    start = next(event for event in events if event["event"] == "start")
    machine = {key: environment[key] for key in ("cpu", "gpus", "packages")}
    row = {
        "run": re.sub(r"-\d{8}-\d{6}$", "", run.name),  # without the time that a default name ends in
        **{key: config[key] for key in SETTINGS},
        "precision": start["precision"],
        "images": start["images"],
        "classes": start["classes"],
        **end,
        "machine": machine,
    }
    with (RESULTS / "runs.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def plot(run: Path) -> str:
    """An SVG of the training loss (left axis) and the held-out mAP (right axis) over the epochs."""
    events = read_events(run)
    per_epoch = next(event for event in events if event["event"] == "start")["steps_per_epoch"]
    losses = [(e["step"] / per_epoch, e["loss"]) for e in events if e["event"] == "train"]
    evaluations = [event for event in events if event["event"] == "eval" and event["weights"] == "last"]
    scores = [
        (e["step"] / per_epoch, e["mAP_ema"] if e["mAP_ema"] is not None else e["mAP"])
        for e in evaluations
        if e["split"] == evaluations[0]["split"]  # that of every epoch; test follows once at the end
    ]
    last = max(x for x, _ in losses)
    low, high = min(y for _, y in losses), max(y for _, y in losses)

    def place(x: float, share: float) -> str:
        return f"{LEFT + x / last * (WIDTH - LEFT - RIGHT):.1f},{HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM):.1f}"

    loss_line = " ".join(place(x, (y - low) / (high - low)) for x, y in losses)
    score_line = " ".join(place(x, y / 100) for x, y in scores)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(0, share).split(",")
        loss, below = low + share * (high - low), float(y) + 4
        parts += [
            f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>',
            f'<text x="{LEFT - 6}" y="{below}" text-anchor="end" fill="#888">{loss:.2f}</text>',
            f'<text x="{WIDTH - RIGHT + 6}" y="{below}" fill="#0a6">{100 * share:.0f}</text>',
        ]
    for epoch in range(0, round(last) + 1, max(1, round(last / 10))):
        x = place(epoch, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="#444">{epoch}</text>')
    parts += [
        f'<polyline points="{loss_line}" fill="none" stroke="#999" stroke-width="1.5"/>',
        f'<polyline points="{score_line}" fill="none" stroke="#0a6" stroke-width="2.5"/>',
        f'<text x="{LEFT}" y="{TOP - 8}" fill="#888">training loss</text>',
        f'<text x="{WIDTH - RIGHT}" y="{TOP - 8}" text-anchor="end" fill="#0a6">held-out mAP, %</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle" fill="#444">epoch</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.record_run", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    record(arguments.run)
    if arguments.plot is not None:
        arguments.plot.write_text(plot(arguments.run))


if __name__ == "__main__":
    main()
