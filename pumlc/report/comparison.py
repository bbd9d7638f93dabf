"""Several runs side by side: what differs in their settings, and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pumlc.engine.whole_files import write_atomically
from pumlc.errors import InputError
from pumlc.report.charts import COLOURS
from pumlc.report.classes import class_rows, fold
from pumlc.report.curves import overlaid
from pumlc.report.headline import score_text
from pumlc.report.markup import Markup, element, isolated
from pumlc.report.page import Section, page
from pumlc.report.record import Record, read_run
from pumlc.report.run_page import place
from pumlc.report.settings import text

_SCORES = (
    ("mAP", "mAP, % (95 % interval)"),
    ("CF1", "CF1 at 0.5"),
    ("OF1", "OF1 at 0.5"),
    ("CF1_thresholds", "CF1 at chosen thresholds"),
    ("OF1_thresholds", "OF1 at chosen thresholds"),
)
_NOT_SETTINGS = ("out", "resume")


def write_comparison(runs: Sequence[Path], out: Path | None) -> tuple[Path, int]:
    """Write ``comparison.html`` in the first run folder, or ``out``; returns the file and its size in bytes.

    Raises:
        InputError: there are fewer than two runs, one is named twice, one is no run folder or its files are damaged, or
            the page cannot be written.
    """
    folders = [run.resolve() for run in runs]
    if len(folders) < 2:
        raise InputError(f"--compare was given {len(folders)} run; at least two run folders were wanted.")
    if len(set(folders)) < len(folders):
        raise InputError("--compare was given the same run folder more than once; different ones were wanted.")
    records = [read_run(run) for run in runs]
    header = element(
        "header",
        element("p", "pumlc comparison", class_="kicker"),
        element("h1", f"{len(records)} runs"),
        _warning_list(records),
        _scores(records),
    )
    sections = [
        Section("curves", "Training", overlaid(records)),
        Section("settings", "Settings that differ", element("div", _settings(records), class_="panel runs")),
        Section("classes", "Classes", _classes(records)),
    ]
    names = ", ".join(record.name for record in records)
    document = page(f"{names} \N{MIDDLE DOT} pumlc", header, sections)
    path = place(out, runs[0] / "comparison.html")
    write_atomically(path, lambda file: file.write(document))
    return path, len(document)


def _warning_list(records: Sequence[Record]) -> Markup | None:
    """What keeps the scores from being compared."""
    found: list[str] = []
    if len({record.split for record in records if record.split is not None}) > 1:
        found.append("The scores are of different splits, and cannot be compared.")
    images = {record.summary["splits"][record.split]["images"] for record in records if record.scores}
    data = {record.config.data for record in records}
    if len(images) > 1 or len(data) > 1:
        found.append("The runs have different data or numbers of held-out pictures: compare their scores with care.")
    missing = [record.name for record in records if not record.scores]
    if missing:
        found.append(f"Not evaluated, so without intervals: {', '.join(missing)}.")
    flattered = [
        record.name for record in records if record.scores and record.summary["splits"][record.split]["flattered_by"]
    ]
    if flattered:
        found.append(f"Chosen or fitted on the very pictures that they are scored on: {', '.join(flattered)}.")
    unfinished = [record.name for record in records if record.end is None]
    if unfinished:
        found.append(f"Not finished: {', '.join(unfinished)}.")
    return element("ul", [element("li", each) for each in found], class_="warnings") if found else None


def _name(record: Record, number: int) -> Markup:
    """The name with the colour of its curves."""
    style = f"sample series-{number % COLOURS + 1}" + (" dashed" if number >= COLOURS else "")
    return element("span", element("span", class_=style), isolated(record.name), class_="named")


def _scores(records: Sequence[Record]) -> Markup:
    header = [element("th", words, scope="col") for words in ("run", "split", *(words for _, words in _SCORES), "ECE")]
    rows = []
    for number, record in enumerate(records):
        scores = record.scores or record.end
        reliability = (record.scores or {}).get("reliability")
        calibrated = reliability and (reliability["after"] or reliability["before"])
        error = "\N{EN DASH}" if not calibrated or calibrated["ECE"] is None else f"{calibrated['ECE']:.2f}"
        cells = [record.split or "\N{EN DASH}", *(score_text(scores, key) for key, _ in _SCORES), error]
        rows.append(
            element("tr", element("th", _name(record, number), scope="row"), [element("td", each) for each in cells])
        )
    table = element("table", element("thead", element("tr", header)), element("tbody", rows), class_="plain")
    return element("div", table, class_="panel runs")


def _settings(records: Sequence[Record]) -> Markup:
    values = [dataclasses.asdict(record.config) for record in records]
    different = [
        key for key in values[0] if key not in _NOT_SETTINGS and any(each[key] != values[0][key] for each in values)
    ]
    if not different:
        return element("p", "None: the runs have the same settings.", class_="quiet")
    header = [element("th", "setting", scope="col")]
    header += [element("th", _name(record, number), scope="col") for number, record in enumerate(records)]
    rows = [
        element(
            "tr",
            element("th", element("code", f"--{key.replace('_', '-')}"), scope="row"),
            [element("td", isolated(text(each[key]))) for each in values],
        )
        for key in different
    ]
    return element("table", element("thead", element("tr", header)), element("tbody", rows), class_="plain")


def _classes(records: Sequence[Record]) -> Markup:
    """The AP of each class in each run, and how far each run is from the first; the largest change first."""
    tables = [_ap(record) for record in records]
    names = [name for name in tables[0] if any(name in table for table in tables[1:])]
    if not names:
        return element("p", "The runs have no scored class in common.", class_="quiet")
    rows = []
    for name in names:
        values = [table.get(name) for table in tables]
        changes = [None if v is None or values[0] is None else v - values[0] for v in values[1:]]
        rows.append((max((abs(c) for c in changes if c is not None), default=-1.0), name, values, changes))
    rows.sort(key=lambda row: (-row[0], row[1]))
    scale = max(row[0] for row in rows)
    header = [element("th", "class", scope="col"), element("th", _name(records[0], 0), scope="col")]
    header += [element("th", _name(record, number), scope="col") for number, record in enumerate(records) if number]
    body = [
        element(
            "tr",
            element("th", isolated(name), scope="row"),
            element("td", _value(values[0])),
            [
                element("td", element("div", _value(value), _change(change, scale), class_="measure"))
                for value, change in zip(values[1:], changes, strict=True)
            ],
        )
        for _, name, values, changes in rows
    ]
    note = element("p", "Average precision in percent, and the difference from the first run.", class_="quiet")
    table = element("table", element("thead", element("tr", header)), element("tbody", body), class_="plain")
    return fold(note, element("div", table, class_="panel runs"), len(rows))


def _ap(record: Record) -> dict[str, float | None]:
    return {each["name"]: each["AP"] for each in class_rows(record)}


def _value(value: float | None) -> Markup:
    return element("span", "\N{EN DASH}" if value is None else f"{value:.1f}", class_="figure")


def _change(change: float | None, scale: float) -> Markup | None:
    """A bar from the middle, to the right for better."""
    if change is None:
        return None
    width = 50 * abs(change) / scale if scale > 0 else 0
    left = 50 if change >= 0 else 50 - width
    colour = "right" if change >= 0 else "wrong"
    bar = element("b", class_=colour, style=f"left:{left:.2f}%;width:{width:.2f}%")
    sign = f"{change:+.1f}".replace("-", "\N{MINUS SIGN}")
    return Markup(element("div", bar, class_="bar signed") + element("span", sign, class_="figure"))
