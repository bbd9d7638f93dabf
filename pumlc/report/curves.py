"""Curves of a run, or of several in the same axes, from their logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pumlc.report.charts import COLOURS, Axis, Mark, Point, Series, line_chart
from pumlc.report.markup import Markup, element
from pumlc.report.record import Record

EPOCHS = Axis("epoch", low=0)


class _Curve(NamedTuple):
    """A chart of one number of the ``train`` events."""

    title: str
    description: str
    axis: Axis
    key: str
    factor: float = 1.0


_SPEED = (
    _Curve("Learning rate", "Learning rate over the epochs.", Axis("learning rate", low=0), "lr"),
    _Curve("Training speed", "Images per second in training.", Axis("images per second", low=0), "images_per_second"),
    _Curve(
        "Waiting for data",
        "Share of the training time in which the network waited for pictures.",
        Axis("% of the time", low=0),
        "data_wait",
        100.0,
    ),
)


def curves(record: Record) -> Markup:
    """Loss, mAP, learning rate, speed, waiting, and what was memorised where that is known."""
    marks = [*_restarts(record), *_kept(record)]
    train = [(place, event) for place, event in record.positions if event["event"] == "train"]
    parts = sorted({key for _, event in train for key in event if key.startswith("loss_")})
    names = {"loss": "loss", **{part: part.removeprefix("loss_").replace("_", " ") for part in parts}}
    loss = [
        Series(name, _values(train, key), colour=number, dashed=number > 1)
        for number, (key, name) in enumerate(names.items(), 1)
    ]
    charts = [
        line_chart(
            "Training loss", "Mean training loss between two lines of the log.", loss, EPOCHS, Axis("loss"), marks=marks
        ),
        _map_chart(record, marks),
        *(
            line_chart(
                each.title,
                each.description,
                [Series(each.title.lower(), _values(train, each.key, each.factor))],
                EPOCHS,
                each.axis,
                marks=_restarts(record),
            )
            for each in _SPEED
        ),
    ]
    memorised = _memorised(record)
    return element("div", charts, memorised, class_="charts")


def overlaid(records: Sequence[Record]) -> Markup:
    """mAP, loss and speed of several runs in the same axes, a colour each, in the order of ``records``."""

    def chart(
        title: str,
        description: str,
        label: str,
        points: Callable[[Record], list[Point]],
        name: Callable[[Record], str] = lambda record: record.name,
    ) -> Markup:
        series = [
            Series(name(record), points(record), colour=number % COLOURS + 1, dashed=number >= COLOURS)
            for number, record in enumerate(records)
        ]
        return line_chart(title, description, series, EPOCHS, Axis(label))

    return element(
        "div",
        chart(
            "mAP",
            "Held-out mAP of each run over its epochs, of the better weights.",
            "mAP, %",
            _best_maps,
            _name_and_split,
        ),
        chart("Training loss", "Training loss of each run.", "loss", lambda record: _train(record, "loss")),
        chart(
            "Training speed",
            "Images per second of each run in training.",
            "images per second",
            lambda record: _train(record, "images_per_second"),
        ),
        class_="charts",
    )


def _name_and_split(record: Record) -> str:
    return f"{record.name}, {_selection_split(record)}"


def _train(record: Record, key: str) -> list[Point]:
    return _values([each for each in record.positions if each[1]["event"] == "train"], key)


def _best_maps(record: Record) -> list[Point]:
    split = _selection_split(record)
    return [
        Point(place, max((v for v in (event["mAP"], event["mAP_ema"]) if v is not None), default=None))
        for place, event in _evaluations(record, split)
    ]


def _values(events: Sequence[tuple[float, dict[str, Any]]], key: str, factor: float = 1.0) -> list[Point]:
    """A number of each event; older logs may lack it."""
    values = [(place, event.get(key)) for place, event in events]
    return [Point(place, None if value is None else factor * value) for place, value in values]


def _selection_split(record: Record) -> str | None:
    """The split that is evaluated after every epoch: val where there is one."""
    found = {event["split"] for event in record.of("eval")}
    return next((split for split in ("val", "test") if split in found), None)


def _evaluations(record: Record, split: str | None) -> list[tuple[float, dict[str, Any]]]:
    """Those of the weights of the moment."""
    return [
        (place, event)
        for place, event in record.positions
        if event["event"] == "eval" and event["split"] == split and event["weights"] == "last"
    ]


def _map_chart(record: Record, marks: Sequence[Mark]) -> Markup:
    split = _selection_split(record)
    evaluations = _evaluations(record, split)
    series = [
        Series(name, _values(evaluations, key), colour=number, radius=2.5)
        for number, (key, name) in enumerate((("mAP", "weights"), ("mAP_ema", "their moving average")), 1)
    ]
    title = "mAP" if split is None else f"mAP on {split}"
    return line_chart(
        title, f"{title} after each epoch, of the weights and of their average.", series, EPOCHS, Axis("mAP, %"),
        marks=marks,
    )  # fmt: skip


def _memorised(record: Record) -> Markup | None:
    events = [(place, event) for place, event in record.positions if event["event"] == "memorisation"]
    if not events:
        return None
    series = [
        Series("truly absent", _values(events, "true_negatives"), colour=1, radius=2.5),
        Series("truly present", _values(events, "false_negatives"), colour=2, radius=2.5),
    ]
    return line_chart(
        "Loss of the hidden labels",
        "Mean cross-entropy of the labels that training did not see, if they were taken for negative.",
        series,
        EPOCHS,
        Axis("cross-entropy", low=0),
    )


def _restarts(record: Record) -> list[Mark]:
    return [Mark(event["step"] / max(event["steps_per_epoch"], 1), "resumed") for event in record.of("resume")]


def _kept(record: Record) -> list[Mark]:
    best = record.end and record.end["best_on_val"]
    return [Mark(best["epoch"], "weights kept")] if best else []
