"""python -m bench.table: writes the README's tables of speed and accuracy from bench/results/."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bench.timing import RESULTS

README = Path(__file__).parents[1] / "README.md"
NOT_MEASURED = "| a GPU | | | not measured | | |"


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def speed_table() -> str:
    """The newest row of each shape, dtype and pass of pumlc's operators, per machine."""
    lines = [
        "| machine | op, shape, dtype | passes | microseconds | speed-up over eager | over torch.compile |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    on_gpu = False
    for path in sorted(RESULTS.glob("*.jsonl")):
        newest = {}
        for row in read(path):
            if row.get("provider") == "pumlc":
                newest[row["op"], row["shape"], row["dtype"], row["passes"]] = row
        for (op, shape, dtype, passes), row in newest.items():
            on_gpu |= row["cuda"] is not None
            lines.append(
                f"| {row['device']}, torch {row['torch']} | `{op}` {shape} {dtype} | {passes} | "
                f"{row['microseconds']:.0f} | {row['times_eager']:.1f} | {row['times_compiled']:.1f} |"
            )
    return "\n".join(lines if on_gpu else [*lines, NOT_MEASURED])


def data_table() -> str:
    """The newest row of each set of files, per machine."""
    lines = [
        "| machine | files | this loader, img/s | torchvision DataLoader with Pillow, img/s | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path in sorted(RESULTS.glob("*.jsonl")):
        newest = {row["files"]: row for row in read(path) if row.get("benchmark") == "data"}
        for files, row in newest.items():
            rates = row["images_per_second"]
            lines.append(
                f"| {row['device']} | {files} | {rates['TrainLoader']:.0f} | "
                f"{rates['torchvision, as published']:.0f} | {row['ratio']:.1f} |"
            )
    return "\n".join(lines)


def accuracy_table() -> str:
    lines = [
        "| data | labels kept | model | test mAP, % | CF1 | OF1 | precision |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in read(RESULTS / "runs.jsonl"):
        kept = "one positive per image" if row["single_positive"] else f"{row['prob']:.0%}"
        lines.append(
            f"| {row['run']}: {row['images']} training images, {row['classes']} classes | {kept} | "
            f"{row['backbone']}, {row['image_size']} px, {row['epochs']} epochs | {row['mAP']:.1f} | "
            f"{row['CF1']:.1f} | {row['OF1']:.1f} | {row['precision']} |"
        )
    return "\n".join(lines)


def main() -> None:
    text = README.read_text()
    for name, table in (("speed", speed_table()), ("data", data_table()), ("accuracy", accuracy_table())):
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda m, table=table: m[1] + table + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{README} has {count} places for the {name} table, wanted one")
    README.write_text(text)


if __name__ == "__main__":
    main()
