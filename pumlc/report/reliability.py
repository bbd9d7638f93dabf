"""How far the probabilities can be taken at their word, before and after calibration."""

from __future__ import annotations

from typing import Any

from pumlc.report.charts import Axis, Point, Series, line_chart
from pumlc.report.markup import Markup, element, join
from pumlc.report.record import Record

_SMALLEST, _LARGEST = 1.5, 6.0  # radius of a dot
_STATES = (("before", "before calibration"), ("after", "after calibration"))


def reliability(record: Record) -> Markup:
    """The diagram of all known labels of the split, and the expected calibration errors as a table."""
    if not record.scores:
        return element("p", "No calibration was measured.", class_="quiet")
    measured = [
        (name, record.scores["reliability"][key], number)
        for number, (key, name) in enumerate(_STATES, 1)
        if record.scores["reliability"][key] is not None
    ]
    chart = line_chart(
        "Reliability diagram",
        "Share of true labels over the probability that the model gave them; on the diagonal both agree. "
        + " ".join(f"ECE {name}: {values['ECE']:.1f} percent." for name, values, _ in measured if values["ECE"]),
        [Series(name, _points(values["bins"]), colour=number) for name, values, number in measured],
        Axis("probability given", 0.0, 1.0),
        Axis("share that is positive", 0.0, 1.0),
        diagonal=True,
    )
    header = element("tr", [element("th", text, scope="col") for text in ("", "all labels", "mean of classes")])
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            [element("td", _percent(values[key])) for key in ("ECE", "ECE_classes")],
        )
        for name, values, _ in measured
    ]
    table = element("table", element("thead", header), element("tbody", rows), class_="plain")
    title = element("h3", "Expected calibration error")
    return element("div", chart, element("div", title, table, _note(record)), class_="pair")


def _points(bins: list[dict[str, Any]]) -> list[Point]:
    """A dot per bin that holds anything, whose area stands for how much."""
    most = max((each["count"] for each in bins), default=0) or 1
    return [
        Point(
            each["probability"], each["positives"], _SMALLEST + (_LARGEST - _SMALLEST) * (each["count"] / most) ** 0.5
        )
        for each in bins
        if each["count"]
    ]


def _note(record: Record) -> Markup:
    fitted = record.summary["fitted_on"]
    if fitted is None:
        text = "Nothing was calibrated: that takes a val split."
    elif fitted == record.split:
        text = f"The calibration was fitted on these very pictures ({fitted}), so its error is too low here."
    else:
        text = f"The calibration, a temperature and a bias per class, was fitted on {fitted}."
    return element(
        "p",
        join(
            f"{text} The mean distance between probability and truth, in percent, of the labels that are known on "
            f"{record.split}. A dot is a range of probabilities; the larger, the more labels are in it."
        ),
        class_="quiet",
    )


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.2f} %"
