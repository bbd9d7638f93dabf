"""python -m bench.table: writes the README's tables of speed and accuracy from bench/results/ and bench/bars.toml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.bars import Bar, load, measured, read_rows
from bench.methods import CEILING, METHODS
from bench.timing import RESULTS
from bench.trials import as_good_as_the_best, mean_and_deviation, undecided

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


def predict_table(rows: Iterable[dict], bars: Sequence[Bar]) -> str:
    """Predictions: a line per machine and network."""
    lines = [
        (
            row["device"],
            f"{row['backbone']} at {row['image_size']}, {row['precision']}, {row['files']}",
            f"{row['images_per_second']['predict']:.0f}",
            f"{row['images_per_second']['evaluation']:.0f}",
            f"{row['evaluation_share']:.2f}",
            bar_cell(row, bars),
        )
        for row in rows
        if row.get("benchmark") == "predict"
    ]
    header = ("machine", "network, files", "python -m pumlc.predict, img/s", "evaluation, img/s", "share", "bar")
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


def methods_table(rows: Sequence[dict]) -> str:
    """Every method: what it assumes, when to use it, what was measured; and which order is not decided."""
    by_name = {row["row"]: row for row in rows}
    settings = list(dict.fromkeys(row["labels"] for row in rows if row["labels"] != "all"))
    lines = []
    if CEILING in by_name:
        ceiling = by_name[CEILING]
        scores = [mean_and_deviation(ceiling["test_mAP"])] * len(settings)
        lines.append((CEILING, "", "the ceiling", "", *scores, *_pace(ceiling)))
    for method in METHODS:
        found = [by_name.get(f"{method.name}, {labels}") for labels in settings]
        scores = ["not measured" if row is None else mean_and_deviation(row["test_mAP"]) for row in found]
        pace = next((_pace(row) for row in found if row is not None), ("", ""))
        name = f"`{method.name}`" + (f" `{method.flags}`" if method.flags else "")
        lines.append((name, method.assumes, method.use, method.presets, *scores, *pace))
    header = ("method", "assumes", "use it where", "presets", *(f"{labels}, test mAP, %" for labels in settings))
    notes = []
    for labels in settings:
        best, close = as_good_as_the_best([row for row in rows if row["labels"] == labels])
        names = ", ".join(name.rpartition(", ")[0] for name in close)
        rest = (
            f"within a deviation of it, so that their order is not decided: {names}"
            if close
            else "no other is within a deviation of it"
        )
        notes.append(f"- {labels}: {best.rpartition(', ')[0]} is the best; {rest}.")
    return markdown((*header, "img/s", "seconds"), lines) + "\n\n" + "\n".join(notes)


def _pace(row: dict) -> tuple[str, str]:
    return f"{row['images_per_second']:.0f}", f"{row['seconds']:.0f}"


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
        "predict": predict_table(rows, bars),
        "local-global": local_global_table(rows, bars),
        "published-step": published_step_table(rows, bars),
        "ablation": ablation_table(newest_comparison(read_rows(RESULTS / "ablation.jsonl"))),
        "methods": methods_table(newest_comparison(read_rows(RESULTS / "methods.jsonl"))),
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
