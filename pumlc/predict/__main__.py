"""``python -m pumlc.predict RUN PICTURES… [--format csv] [--out FILE]``: name what is in pictures."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from pumlc.data.folders import EXTENSIONS
from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.engine.console import Console
from pumlc.engine.distributed import choose_device
from pumlc.engine.recogniser import Recogniser, load_recogniser
from pumlc.errors import InputError, MissingPackageError
from pumlc.predict.names import find_pictures
from pumlc.predict.probabilities import BATCH_SIZE, Options, predict_batches
from pumlc.predict.rows import FORMATS, Row, Writer

INTERRUPTED = 130  # as shells say it


class Unusable(NamedTuple):
    """Pictures that cannot be used."""

    count: int
    first: str  # a file and what is wrong with it


def write_predictions(
    recogniser: Recogniser, files: Sequence[str], options: Options, writer: Writer, done: Callable[[int], object]
) -> Unusable:
    """Write a row for every file as soon as its batch is computed; returns how many of them hold no probabilities.

    Args:
        done: called with the number of rows after every batch.
    """
    unusable = Unusable(0, "")
    writer.begin()
    for batch in predict_batches(recogniser, files, options):
        for row in batch.rows:
            writer.write(Row(files[row], batch.probabilities.get(row), batch.unusable.get(row)))
        writer.file.flush()
        for row, reason in batch.unusable.items():
            unusable = Unusable(unusable.count + 1, unusable.first or f"{files[row]} {reason}")
        done(len(batch.rows))
    writer.end()
    return unusable


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has seen enough; what Python flushes at its end has to go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("Stopped: the rows of the pictures that were done are written.", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if options.batch_size < 1:
        raise InputError(f"--batch-size is {options.batch_size}; at least 1 was wanted.")
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads is {options.threads}; at least 1 was wanted.")
    if options.threshold is not None and math.isnan(options.threshold):
        raise InputError("--threshold is nan; a number was wanted, such as 0.5.")
    recogniser = load_recogniser(options.run)
    files, repeated = find_pictures(options.pictures, sys.stdin.buffer, separator=b"\0" if options.null else b"\n")
    if not files:
        raise InputError("No picture was named in the list on the standard input. Write a file in each line.")
    device = choose_device(options.device)
    how = Options(device, options.precision, options.batch_size, options.threads, options.max_megapixels)
    thresholds = recogniser.thresholds.numpy()
    if options.threshold is not None:
        thresholds = np.full_like(thresholds, options.threshold)
    if repeated:
        print(f"files that were named again and have one row all the same: {repeated}", file=sys.stderr)
    with _opened(options.out) as file:
        writer = FORMATS["json" if options.json else options.format](file, recogniser.class_names, thresholds)
        # beside rows on the same terminal a bar would be torn
        with Console(not file.isatty()).bar("predict", len(files), unit="picture") as bar:
            try:
                unusable = write_predictions(recogniser, files, how, writer, bar.update)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise InputError(f"{options.out or 'The output'} cannot be written: {error.strerror}.") from error
    if unusable.count == len(files):
        others = f", and none of {len(files) - 1} more can be used" if len(files) > 1 else ""
        raise InputError(f"{unusable.first}{others}. Nothing could be predicted.")
    if unusable.count:
        print(f"pictures: {len(files)}, of which {unusable.count} cannot be used, as their rows say", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Where rows go: names of files may hold any bytes."""
    if path is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        yield file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pumlc.predict",
        description="Name what is in pictures: a row for each, in their order, as soon as it is known. A picture that "
        "cannot be used has a row that says why. Exit status 2 where none can be.",
    )
    parser.add_argument("run", type=Path, help="run folder of train.py, or a .safetensors of it or of pumlc.export")
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="picture",
        help=f"files; folders, of which all below that ends in {', '.join(EXTENSIONS)} is taken; patterns in quotes, "
        "with ** for any folders; - for a list of these on the standard input. A file that is named again is left out",
    )
    parser.add_argument(
        "--format",
        choices=[name for name in FORMATS if name != "json"],
        default="text",
        help="text: the classes above their thresholds; csv: columns image, error, labels (with | between them) and "
        "the probability of each class; jsonl: an object a line with image, labels and classes, or error "
        "(default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON list of the objects of jsonl")
    parser.add_argument("--out", type=Path, help="file to be written instead of the standard output")
    parser.add_argument(
        "--threshold",
        type=float,
        help="lowest probability of a label (default: what the run has found for each class, 0.5 where it has not)",
    )
    parser.add_argument("--null", action="store_true", help="the list on the standard input is separated by NUL bytes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help="number format of the network; auto is bf16 where the hardware has it and fp32 elsewhere",
    )
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="pictures at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, help="largest picture (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
