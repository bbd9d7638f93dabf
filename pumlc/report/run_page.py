"""The page of one run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from pumlc.engine.recogniser import Recogniser, load_recogniser
from pumlc.engine.whole_files import write_atomically
from pumlc.errors import InputError
from pumlc.report.classes import classes
from pumlc.report.curves import curves
from pumlc.report.gallery import gallery, held_out
from pumlc.report.headline import headline
from pumlc.report.markup import Markup, command, element
from pumlc.report.page import Section, page
from pumlc.report.predictions import read_predictions
from pumlc.report.record import Record, read_run
from pumlc.report.reliability import reliability
from pumlc.report.settings import environment, settings
from pumlc.report.suspicious import suspicions, suspicious, write_suspicions

PICTURES = 12


class Written(NamedTuple):
    """The files of a report, and how many labels are in the second; None where nothing was evaluated."""

    page: Path
    size: int  # bytes
    suspicions: Path | None
    count: int


def write_report(run: Path, out: Path | None, pictures: int, device: torch.device) -> Written:
    """Write ``report.html`` of a run folder there, or ``out``, and ``suspicious.tsv`` beside it.

    Args:
        pictures: how many held-out ones are shown.
        device: where the maps of the classes are computed.

    Raises:
        InputError: ``run`` is no run folder, a file of it is damaged, or the page cannot be written. Pictures that are
            missing are not an error: the page says so in their place.
    """
    path = place(out, run / "report.html")
    record = read_run(run)
    sections = [
        Section("curves", "Training", curves(record)),
        Section("classes", "Classes", classes(record)),
        Section("reliability", "Calibration", reliability(record)),
    ]
    if pictures > 0:
        sections.append(Section("pictures", "Pictures", _gallery(record, pictures, device)))
    content, table, count = _suspicious(record, path.parent)
    sections += [
        Section("suspicious", "Suspicious labels", content),
        Section("settings", "Settings", element("div", settings(record), class_="panel")),
        Section("environment", "Environment", element("div", environment(record), class_="panel")),
    ]
    document = page(f"{record.name} \N{MIDDLE DOT} pumlc", headline(record), sections)
    write_atomically(path, lambda file: file.write(document))
    return Written(path, len(document), table, count)


def place(out: Path | None, usual: Path) -> Path:
    """Where a page goes: ``out``, where it was given; raises InputError where its folder is missing."""
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out is {out}, but there is no folder {out.parent}. Make it, or choose another place.")
    return out or usual


def _gallery(record: Record, count: int, device: torch.device) -> Markup:
    split = held_out([] if record.summary is None else list(record.summary["splits"]))
    predictions = None if split is None else read_predictions(record, split)
    if predictions is None:
        return _not_evaluated(record)
    return gallery(record, predictions, _recogniser(record), count, device)


def _recogniser(record: Record) -> Recogniser | None:
    """None where the weights are not in the folder any more, without which all but the maps can be shown."""
    if not (record.folder / "best.safetensors").is_file():
        return None
    return load_recogniser(record.folder)


def _suspicious(record: Record, folder: Path) -> tuple[Markup, Path | None, int]:
    """The section, and the table, which goes into ``folder``, with its length.

    They are of the labels that training saw, where these were evaluated; else of held-out ones.
    """
    for split in ("train", "test", "val"):
        predictions = read_predictions(record, split)
        if predictions is not None:
            found = suspicions(predictions)
            return suspicious(record, predictions, found), write_suspicions(folder, found), len(found)
    return _not_evaluated(record), None, 0


def _not_evaluated(record: Record) -> Markup:
    evaluate = command("python", "-m", "pumlc.evaluate", record.folder)
    return element("p", "No pictures were evaluated. Write them with: ", evaluate, class_="quiet")
