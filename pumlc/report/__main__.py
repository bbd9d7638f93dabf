"""``python -m pumlc.report RUN [--out FILE] [--compare RUN …] [--pictures N] [--device auto|cpu|cuda]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pumlc.engine.distributed import choose_device
from pumlc.errors import InputError, MissingPackageError
from pumlc.report.comparison import write_comparison
from pumlc.report.page import size_text
from pumlc.report.run_page import PICTURES, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pumlc.report",
        description="Write a run as one page, RUN/report.html, that opens in any browser without a network; and "
        "suspicious.tsv beside it, the labels that the model contradicts with confidence.",
    )
    parser.add_argument("run", type=Path, nargs="?", help="run folder of train.py")
    parser.add_argument(
        "--out", type=Path, help="where the page goes, with suspicious.tsv beside it (default: into the run folder)"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="RUN",
        default=[],
        help="write comparison.html instead: these runs, and RUN before them, side by side",
    )
    parser.add_argument(
        "--pictures", type=int, default=PICTURES, help="how many held-out pictures are shown (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute the maps")
    options = parser.parse_args(arguments)
    if options.run is None and not options.compare:
        parser.error("a run folder is wanted")
    if options.pictures < 0:
        parser.error(f"--pictures is {options.pictures}; it must be at least 0")
    try:
        if options.compare:
            runs = [*([] if options.run is None else [options.run]), *options.compare]
            path, size = write_comparison(runs, options.out)
            print(f"{path}: {size_text(size)}")
            return 0
        written = write_report(options.run, options.out, options.pictures, choose_device(options.device))
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{written.page}: {size_text(written.size)}")
    if written.suspicions is not None:
        print(f"{written.suspicions}: {written.count} labels to look at")
    return 0


if __name__ == "__main__":
    sys.exit(main())
