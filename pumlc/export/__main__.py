"""``python -m pumlc.export RUN --format onnx|torch-export|safetensors``: a trained model in a file of its own."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pumlc.engine.recogniser import load_recogniser
from pumlc.engine.whole_files import write_atomically
from pumlc.errors import InputError, MissingPackageError
from pumlc.export.formats import FORMATS
from pumlc.export.pictures import COUNT, Chosen, choose_pictures
from pumlc.predict import Options, predict

TOLERANCE = 5e-3
"""Of a probability. In ONNX, one pixel in 500 is a grey level off where resizing rounds it, which moves probabilities
by a tenth of this; another filter, another normalisation or a weight left out move them by much more."""


class Difference(NamedTuple):
    """Where a file and the model that it was made of differ most."""

    largest: float  # of a probability
    picture: Path
    class_name: str


def export(run: Path, kind: str, out: Path, chosen: Chosen, tolerance: float = TOLERANCE) -> Difference:
    """Write the model of a run, after the file has predicted the chosen pictures as the model does.

    Args:
        run: run folder, or a weight file of one.
        kind: of ``FORMATS``.

    Raises:
        InputError: the weights cannot be read, or the file cannot be written, or its probabilities differ by more than
            ``tolerance``; nothing is written then.
    """
    recogniser = load_recogniser(run)
    if out.resolve() == recogniser.path.resolve():
        raise InputError(f"--out is {out}, the very weights that are exported; another name was wanted.")
    expected = predict(recogniser, chosen.paths, Options(torch.device("cpu"), "fp32"))
    with tempfile.TemporaryDirectory(prefix="pumlc-") as folder:
        made = Path(folder) / f"model{FORMATS[kind].suffix}"
        FORMATS[kind].write(load_recogniser(run), made)
        found = FORMATS[kind].predict(made, chosen.paths)
        differences = np.abs(found - expected)
        picture, label = np.unravel_index(differences.argmax(), differences.shape)
        worst = Difference(
            float(differences[picture, label]), chosen.paths[picture], recogniser.class_names[int(label)]
        )
        if not worst.largest <= tolerance:  # NaN does not pass either
            raise InputError(
                f"{out} is not written: the probability of {worst.class_name} in {worst.picture} is "
                f"{found[picture, label]:.6f} in {kind} and {expected[picture, label]:.6f} in the model, a difference "
                f"of {worst.largest:.2g} where --tolerance allows {tolerance:g}."
            )

        def copy(file) -> None:
            with made.open("rb") as source:
                shutil.copyfileobj(source, file)

        write_atomically(out, copy)
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    form = FORMATS[options.format]
    out = options.out or (options.run if options.run.is_dir() else options.run.parent) / f"model{form.suffix}"
    if options.count < 1:
        raise InputError(f"--count is {options.count}; at least 1 picture was wanted.")
    if out.suffix != form.suffix:
        raise InputError(f"--out is {out}; a name that ends in {form.suffix} was wanted.")
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: there is no folder {out.parent}.")
    with tempfile.TemporaryDirectory(prefix="pumlc-") as scratch:
        chosen = choose_pictures(
            options.run, options.pictures, Path(scratch), options.count, allow_drawn=options.allow_drawn
        )
        if chosen.warning:
            print(f"warning: {chosen.warning}", file=sys.stderr)
        print(f"checked on {len(chosen.paths)} pictures, {chosen.source}", flush=True)
        worst = export(options.run, options.format, out, chosen, options.tolerance)
    print(
        f"largest difference of a probability: {worst.largest:.2g}, allowed {options.tolerance:g} "
        f"({worst.class_name} in {worst.picture})\n"
        f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB; it needs {form.needs}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pumlc.export",
        description="Write a trained model as a file of its own, in fp32: weights merged, and in a graph all that "
        "evaluation does to pictures and logits. It is written if it predicts real pictures as the model does.",
    )
    parser.add_argument("run", type=Path, help="run folder of train.py, or a best.safetensors")
    parser.add_argument("--format", choices=FORMATS, required=True, help="kind of file")
    parser.add_argument("--out", type=Path, help="file to be written (default: model.onnx, .pt2, … in the run folder)")
    parser.add_argument(
        "--pictures",
        nargs="+",
        default=[],
        metavar="PICTURE",
        help="files, folders or patterns to check on (default: the held-out split of the run)",
    )
    parser.add_argument(
        "--allow-drawn", action="store_true", help="check on drawn pictures where none of the run can be found"
    )
    parser.add_argument("--count", type=int, default=COUNT, help="how many of them, at most (default: %(default)s)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="largest difference of a probability that is allowed (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
