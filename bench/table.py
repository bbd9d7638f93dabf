"""python -m bench.table: writes the README's tables of speed and accuracy from bench/results/ and bench/bars.toml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.bars import Bar, load, measured, read_rows
from bench.timing import RESULTS
from bench.trials import mean_and_deviation, undecided

README = Path(__file__).parents[1] / "README.md"
NOT_MEASURED = ("a GPU", "", "", "not measured", "", "", "")


def speed_table(rows: Iterable[dict], bars: Sequence[Bar]) -> str:
    """pumlc's operators: a line per machine, shape, dtype and passes."""
    rows = [row for row in rows if row.get("provider") == "pumlc"]
    lines = [
        (
            f"{row['device']}, torch {row['torch']}",
            f"`{row['op']}` {row['shape']} {row['dtype']}",
            row["passes"],
            f"{row['microseconds']:.0f}",
            f"{row['times_eager']:.1f}",
            f"{row['times_compiled']:.1f}",
            bar_cell(row, bars),
        )
        for row in rows
    ]
    if all(row["cuda"] is None for row in rows):
        lines.append(NOT_MEASURED)
    header = (
        "machine",
        "op, shape, dtype",
        "passes",
        "microseconds",
        "speed-up over eager",
        "over torch.compile",
        "bar",
    )
    return markdown(header, lines)


def data_table(rows: Iterable[dict], bars: Sequence[Bar]) -> str:
    """The input pipeline: a line per machine and set of files."""
    lines = [
        (
            row["device"],
            row["files"],
            f"{row['images_per_second']['TrainLoader']:.0f}",
            f"{row['images_per_second']['torchvision, as published']:.0f}",
            f"{row['ratio']:.1f}",
            bar_cell(row, bars),
        )
        for row in rows
        if row.get("benchmark") == "data"
    ]
    header = ("machine", "files", "this loader, img/s", "torchvision DataLoader with Pillow, img/s", "ratio", "bar")
    return markdown(header, lines)


def local_global_table(rows: Iterable[dict], bars: Sequence[Bar]) -> str:
    """The local-global convolution: a line per machine and convolution, and the median of each machine."""
    lines = [
        (
            row["device"],
            f"{row['convolution']} {row['dtype']}",
            *(_milliseconds(row, provider) for provider in ("plain", "published", "pumlc")),
            f"{row['price_share']:.2f}",
            f"{row['memory_share']:.2f}",
            bar_cell(row, bars),
        )
        for row in rows
        if row.get("benchmark") == "local_global"
    ]
    header = ("machine", "convolution", "plain, ms", "published, ms", "pumlc, ms", "price", "memory", "bar")
    return markdown(header, lines)


def _milliseconds(row: dict, provider: str) -> str:
    return f"{row['microseconds'][provider] / 1e3:.1f}" if "microseconds" in row else ""


def published_step_table(rows: Iterable[dict], bars: Sequence[Bar]) -> str:
    """The whole step and the head alone beside the published ones: a line per machine, part and precision."""
    lines = [
        (
            row["device"],
            f"{row['part']}, {row['backbone']} at {row['image_size']}, batch {row['batch_size']}",
            row["precision"],
            f"{row['milliseconds']['published']:.0f}",
            f"{row['milliseconds']['pumlc ' + row['precision']]:.0f}",
            f"{row['times_published']:.2f}",
            f"{row['memory_share']:.2f}",
            bar_cell(row, bars),
        )
        for row in rows
        if row.get("benchmark") == "published_step"
    ]
    header = ("machine", "part", "precision", "published, ms", "pumlc, ms", "times as fast", "share of memory", "bar")
    return markdown(header, lines)


def ablation_table(rows: Sequence[dict]) -> str:
    """What each part of the method adds, in the order of the newest comparison, and which order is not decided."""
    lines = [
        (
            row["row"],
            f"`{row['flags']}`" if row["flags"] else "",
            f"{row['lr']:g}",
            mean_and_deviation(row["test_mAP"]),
        )
        for row in rows
    ]
    header = ("what", "flags of train.py", "learning rate", "test mAP, %")
    notes = "\n".join(f"- {sentence}" for sentence in undecided(rows))
    return markdown(header, lines) + (f"\n\n{notes}" if notes else "")


def accuracy_table(runs: Iterable[dict]) -> str:
    """Training runs, in the order they were recorded."""
    lines = [
        (
            f"{row['run']}: {row['images']} training images, {row['classes']} classes",
            "one positive per image" if row["single_positive"] else f"{row['prob']:.0%}",
            f"{row['backbone']}, {row['image_size']} px, {row['epochs']} epochs",
            f"{row['mAP']:.1f}",
            f"{row['CF1']:.1f}",
            f"{row['OF1']:.1f}",
            row["precision"],
            f"{row['seconds'] / 60:.1f}",
        )
        for row in runs
    ]
    return markdown(("data", "labels kept", "model", "test mAP, %", "CF1", "OF1", "precision", "minutes"), lines)


def newest_comparison(rows: Sequence[dict]) -> list[dict]:
    """The newest row of each name."""
    return list({row["row"]: row for row in rows}.values())


def bar_cell(row: dict, bars: Sequence[Bar]) -> str:
    """Every bar of a row and whether it is met; empty where there is none."""
    return ", ".join(
        f"{bar.wanted.replace('>=', '≥').replace('<=', '≤')}: {bar.verdict(row)}" for bar in bars if bar.is_for(row)
    )


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines))


def main() -> None:
    text = README.read_text()
    rows, bars = measured(), load()
    tables = {
        "speed": speed_table(rows, bars),
        "data": data_table(rows, bars),
        "local-global": local_global_table(rows, bars),
        "published-step": published_step_table(rows, bars),
        "ablation": ablation_table(newest_comparison(read_rows(RESULTS / "ablation.jsonl"))),
        "accuracy": accuracy_table(read_rows(RESULTS / "runs.jsonl")),
    }
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda m, table=table: m[1] + table + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{README} has {count} places for the {name} table, wanted one")
    README.write_text(text)


if __name__ == "__main__":
    main()
