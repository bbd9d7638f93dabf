"""Average precision class by class, as bars in a table that can be sorted."""

from __future__ import annotations

from typing import Any

from pumlc.report.markup import Markup, element, isolated
from pumlc.report.record import Record

FOLD = 30  # classes; of more than that, only both ends of the table are seen at first


def classes(record: Record) -> Markup:
    """A row per class: name, bar, AP, positives and their share; highest AP first."""
    rows = class_rows(record)
    if not rows:
        return element("p", "No class was scored.", class_="quiet")
    rows.sort(key=lambda row: (row["AP"] is None, -(row["AP"] or 0), row["name"]))
    header = element(
        "tr",
        _heading("class", "text"),
        _heading("average precision", "number", class_="wide"),
        _heading("positives", "number"),
        _heading("of known", "number"),
    )
    table = element(
        "table", element("thead", header), element("tbody", [_row(row) for row in rows]), class_="classes sortable"
    )
    note = element(
        "p",
        f"On {record.split}. The mark in a bar is the AP of guessing: the share of positives among the known labels. "
        "Click on a heading to sort.",
        class_="quiet",
    )
    return fold(note, table, len(rows))


def fold(note: Markup, table: Markup, rows: int) -> Markup:
    """A table of classes below its note; where it is long, with its middle folded away until a box is ticked."""
    if rows <= FOLD:
        return element("div", note, table)
    switch = element(
        "label",
        element("input", type="checkbox", class_="unfold"),
        f" show all {rows} classes; otherwise only both ends of the order are seen",
    )
    return element("div", note, switch, table, class_="folded")


def class_rows(record: Record) -> list[dict[str, Any]]:
    """Those of the evaluation; without one, what the last log line of the kept weights has."""
    if record.scores:
        return [*record.scores["classes"]]
    evaluations = [event for event in record.of("eval") if event["split"] == record.split]
    if not evaluations:
        return []
    last = evaluations[-1]
    by_class = last["AP_ema"] if last["weights"] == "last" and last["AP_ema"] else last["AP"]
    return [{"name": name, "AP": value, "positives": None, "known_negatives": None} for name, value in by_class.items()]


def _heading(text: str, kind: str, **attributes: str) -> Markup:
    return element("th", element("button", text, type="button", data_kind=kind), scope="col", **attributes)


def _row(row: dict[str, Any]) -> Markup:
    value, positives, negatives = row["AP"], row["positives"], row["known_negatives"]
    share = None if positives is None or not positives + negatives else positives / (positives + negatives)
    if value is None:
        bar = element("span", "no positives", class_="quiet")
    else:
        chance = None
        if share is not None:
            chance = element("i", class_="chance", style=f"left:{100 * share:.2f}%")
        bar = element(
            "div",
            element("div", element("b", style=f"width:{value:.2f}%"), chance, class_="bar"),
            element("span", f"{value:.1f} %", class_="figure"),
            class_="measure",
        )
    unknown = "\N{EN DASH}"
    return element(
        "tr",
        element("th", isolated(row["name"]), scope="row"),
        element("td", bar, data_value="-1" if value is None else f"{value:.6f}"),
        element("td", unknown if positives is None else f"{positives:,}", data_value=str(positives or 0)),
        element("td", unknown if share is None else f"{100 * share:.1f} %", data_value=f"{share or 0:.6f}"),
    )
