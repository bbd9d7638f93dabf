"""``python -m pumlc.data check DATA [--layout LAYOUT]``: decode every picture, list those that cannot be used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pumlc.data import load_splits
from pumlc.data.checking import Verdict, check_pictures, read_verdicts, write_verdicts
from pumlc.data.dataset import check_folder
from pumlc.data.folders import EXTENSIONS
from pumlc.data.picture import MAX_MEGAPIXELS, PassingReason
from pumlc.data.quarantine import FILE, check_reachable, write_quarantine
from pumlc.errors import InputError, MissingPackageError, require

LAYOUTS = ("coco", "voc", "voc12", "vg", "nuswide", "cub", "openimages", "folder", "csv")
SHOWN = 20


class Found(NamedTuple):
    """Reasons by path."""

    unusable: dict[str, str]
    unreached: dict[str, str]  # of which nothing is known


def check(data: Path, layout: str | None, out: Path, *, max_megapixels: float, workers: int) -> Found:
    """Check the pictures of a data set and write those that cannot be used to ``out``.

    Beside ``out`` lies what is known of every picture, so that a second check decodes those that changed since.

    Raises:
        InputError: the data set cannot be read or ``out`` not be written, which is tried before anything is decoded;
            or the folder of the data goes away meanwhile.
    """
    paths = pictures(data, layout)
    root = folder_of(data)
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"The folder {out.parent} cannot be written. Name the file to be written: --out FILE.")
    cache = out.with_name(f".{out.name}.checked")
    known, now = read_verdicts(cache, max_megapixels), {}
    tqdm = require("tqdm").tqdm
    try:
        with tqdm(total=len(paths), desc="check", unit="picture", disable=None) as bar:

            def found(path: str, verdict: Verdict) -> None:
                now[path] = verdict
                bar.update()

            check_pictures(paths, workers=workers, max_megapixels=max_megapixels, known=known, found=found)
    finally:
        reached = {path: verdict for path, verdict in now.items() if not isinstance(verdict.reason, PassingReason)}
        if len(reached) < len(now):
            check_reachable(root, paths)  # before anything is put where the folder was
        write_verdicts(cache, max_megapixels, {**known, **reached})  # also of a check that was interrupted
    checked = Found(
        {path: reached[path].reason for path in paths if path in reached and reached[path].reason},
        {path: now[path].reason for path in paths if path not in reached},
    )
    write_quarantine(out, root, checked.unusable)
    changed = sum(known.get(path) != verdict for path, verdict in now.items())
    print(f"{len(paths)} pictures, {changed} new or changed: {len(checked.unusable)} cannot be used, listed in {out}.")
    return checked


def folder_of(data: Path) -> Path:
    """The data folder, in which a table may be what is named."""
    return data if data.is_dir() else data.parent


def pictures(data: Path, layout: str | None) -> list[str]:
    """The pictures that the annotations of every split name, or without a layout all that lie below the folder."""
    if layout is not None:
        splits = load_splits(layout, data)
        found = [path for split in (splits.train, splits.val, splits.test) if split for path in split.paths]
    else:
        if data.is_file():
            raise InputError(f"{data} is a file; a folder with pictures was wanted. For a table, add --layout csv.")
        check_folder(data, "with the pictures")
        files = (os.path.join(folder, name) for folder, _, names in os.walk(data) for name in sorted(names))
        found = [path for path in files if path.lower().endswith(EXTENSIONS)]
    if not found:
        raise InputError(f"{data} holds no picture; files that end in {', '.join(EXTENSIONS)} were looked for.")
    return list(dict.fromkeys(os.path.abspath(path) for path in found))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pumlc.data", description="Look after a data set.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "check", help="decode every picture and list those that cannot be used"
    )
    command.add_argument("data", type=Path, help="folder of the data set, or with --layout csv also the table itself")
    command.add_argument("--layout", choices=LAYOUTS, help="check what its annotations name; default: all files")
    command.add_argument("--out", type=Path, help=f"file to be written (default: DATA/{FILE})")
    command.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, help="largest picture (default: %(default)s)"
    )
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.workers < 1:
            raise InputError(f"--workers is {options.workers}; at least 1 was wanted.")
        found = check(
            options.data,
            options.layout,
            options.out or folder_of(options.data) / FILE,
            max_megapixels=options.max_megapixels,
            workers=options.workers,
        )
    except (InputError, MissingPackageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _show(found.unusable)
    if found.unreached:
        print(f"{len(found.unreached)} could not be looked at and are not listed. Check again:")
        _show(found.unreached)
    return 1 if found.unreached else 0


def _show(reasons: Mapping[str, str]) -> None:
    for path in list(reasons)[:SHOWN]:
        print(f"  {path} {reasons[path]}")
    if len(reasons) > SHOWN:
        print(f"  and {len(reasons) - SHOWN} more")


if __name__ == "__main__":
    sys.exit(main())
