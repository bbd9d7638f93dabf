"""The top of the page: what was trained on what, how good it is, and what one should know before believing it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pumlc.engine.console import clock, on_interval
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_metadata
from pumlc.report.markup import Markup, command, element, isolated, join
from pumlc.report.record import Record

_KINDS = {"model": "the weights", "ema": "the moving average of the weights"}
_NAMED = 12  # classes that a warning lists


def headline(record: Record) -> Markup:
    """Title, one sentence on the run, its scores, and warnings."""
    return element(
        "header",
        element("p", "pumlc run", class_="kicker"),
        element("h1", isolated(record.name)),
        element("p", _about(record), class_="lede"),
        element("dl", [_tile(*each) for each in _tiles(record)], class_="tiles"),
        element("p", _provenance(record), class_="quiet"),
        _warning_list(record),
    )


def score_text(scores: dict[str, Any] | None, key: str) -> str:
    """A score with its interval where it has one; a dash where it is unknown."""
    value = scores and scores.get(key)
    if value is None:
        return "\N{EN DASH}"
    low, high = (scores or {}).get(f"{key}_interval") or (None, None)
    interval = "" if low is None else f" ({low:.1f} to {high:.1f})"
    return f"{value:.2f}{interval}"


def _about(record: Record) -> Markup:
    config, start = record.config, record.start
    size = f", {start['images']:,} pictures, {start['classes']} classes" if start else ""
    if config.single_positive:
        labels = "one positive label of each picture"
    else:
        labels = f"{100 * config.prob:g} % of the labels" if config.prob < 1 else "all labels"
    parts = ["local-global convolutions"] if config.local_global else []
    parts += ["semantic decoupling", "a graph network"] if config.head == "full" else ["a linear unit per class"]
    *others, last = parts
    network = f"{', '.join(others)} and {last}" if others else last
    return join(
        f"{config.backbone} with {network}, trained by {config.method} on ",
        isolated(config.data),
        f" ({config.layout}{size}) with {labels}, at {config.image_size} pixels{_length(record)}.",
    )


def _length(record: Record) -> str:
    """How far it was trained, which may be less than was asked for at first."""
    if not record.begun:
        return ""
    per_epoch, asked = max(record.begun["steps_per_epoch"], 1), record.config.epochs
    epochs = f"{record.done / per_epoch:.3g}"
    if record.done >= asked * per_epoch:
        return f" for {epochs} epoch{'s' if epochs != '1' else ''}"
    stopped = any(event["step"] == record.done for event in record.of("early_stop"))
    early = ", stopped early" if stopped else ""
    return f" for {record.done:,} of {asked * per_epoch:,} steps, {epochs} of {asked} epochs{early}"


def _tiles(record: Record) -> Iterator[tuple[str, str, str]]:
    """Name, value and remark of each number of the headline."""
    scores, end = record.scores, record.end
    if scores:
        low, high = scores["mAP_interval"] or (None, None)
        interval = "" if low is None else f"95 % interval {low:.1f} to {high:.1f}"
        yield f"mAP on {record.split}", _percent(scores["mAP"]), interval
        f1 = scores["CF1"], scores["OF1"]
        yield "CF1 / OF1", _pair(*f1), "at probability 0.5"
        if scores["CF1_thresholds"] is not None:
            yield "CF1 / OF1", _pair(scores["CF1_thresholds"], scores["OF1_thresholds"]), "at the chosen thresholds"
        before, after = scores["reliability"]["before"], scores["reliability"]["after"]
        calibrated = "" if after is None else f"{_percent(after['ECE'])} after calibration"
        yield "Calibration error", _percent(before["ECE"]), calibrated
    elif end and end["mAP"] is not None:
        yield f"mAP on {end['split']}", _percent(end["mAP"]), "no interval was computed"
        yield "CF1 / OF1", _pair(end["CF1"], end["OF1"]), "at probability 0.5"
    if end:
        waiting = f"{end['images_per_second']:.0f} img/s, {100 * end['data_wait']:.0f} % waiting for data"
        if record.begun.get("step") == end["step"]:
            waiting = "\N{EN DASH} img/s, no step was trained"
        is_whole = next(record.of("resume"), None) is None
        yield "Time" if is_whole else "Time since resumed", clock(end["seconds"]), waiting


def _tile(name: str, value: str, remark: str) -> Markup:
    return element(
        "div", element("dt", name), element("dd", value, class_="value"), element("dd", remark, class_="remark")
    )


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.1f} %"


def _pair(first: float | None, second: float | None) -> str:
    return " / ".join("\N{EN DASH}" if value is None else f"{value:.1f}" for value in (first, second))


def _provenance(record: Record) -> str:
    """What was selected where."""
    summary = record.summary
    if summary is None:
        return ""
    weights = f"{_KINDS[summary['weights']].capitalize()} of epoch {summary['epoch']}"
    chosen = f", chosen on {summary['selected_on']}" if summary["selected_on"] else ": the last, nothing was chosen"
    fitted = f"Calibration and thresholds were fitted on {summary['fitted_on']}. " if summary["fitted_on"] else ""
    of = summary["splits"].get(record.split)
    if of is None:
        return f"{weights}{chosen}. {fitted}"
    honest = "" if of["flattered_by"] else f"Nothing was chosen on {record.split}. "
    images = f"The scores are of {of['images']:,} pictures of {record.split}."
    return f"{weights}{chosen}. {fitted}{honest}{images}{_other_convention(record.scores)}"


def _other_convention(scores: dict[str, Any] | None) -> str:
    """The mAP as the published codes have it, where it is another number."""
    if not scores or scores["mAP_published"] is None or abs(scores["mAP_published"] - scores["mAP"]) < 0.005:
        return ""
    return (
        " By the convention of the published codes (unknown is negative, a class without positives has 0), mAP is "
        f"{scores['mAP_published']:.2f} %."
    )


def _warning_list(record: Record) -> Markup | None:
    found = list(warnings(record))
    if not found:
        return None
    return element("ul", [element("li", each) for each in found], class_="warnings")


def warnings(record: Record) -> Iterator[Markup | str]:
    """What is wrong with the run, or could be misunderstood of it."""
    if record.start.get("warning"):
        yield record.start["warning"]
    diverged = next(record.of("diverged"), None)
    if diverged:
        yield f"The loss was not finite in step {diverged['step']}: the run ended there."
    elif record.end is None:
        yield join("The run has not finished. Go on with: ", command("python", "train.py", "--resume", record.folder))
    if record.config.published_evaluation:
        yield (
            "The highest scores over thresholds, epochs and weights in the log are chosen on the test split, as in the "
            "published code: they are no measure of new pictures, and do not stand on this page."
        )
    yield from _of_evaluation(record)
    bad = {split: count for split, count in (record.end or {}).get("bad_pictures", {}).items() if count}
    if bad:
        listed = ", ".join(f"{count} of {split}" for split, count in bad.items())
        yield f"Pictures that cannot be used were left out: {listed}. The log names them."


def _of_evaluation(record: Record) -> Iterator[Markup | str]:
    summary, scores = record.summary, record.scores
    if summary is None or scores is None:
        missing = "There are no evaluated pictures, so parts of this page are missing. Write them with: "
        yield join(missing, command("python", "-m", "pumlc.evaluate", record.folder))
        return
    flattered = summary["splits"][record.split]["flattered_by"]
    if flattered:
        yield (
            f"The scores on {record.split} are too high for new pictures: its own pictures were used for "
            f"{' and '.join(flattered)}. A test split would be honest."
        )
    yield from (f"mAP on {record.split}: {remark}." for remark in on_interval(scores))
    without = [each["name"] for each in scores["classes"] if not each["positives"]]
    if without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        names = join(*([", ", isolated(name)] for name in without[:_NAMED]))
        yield join(
            f"{len(without)} classes have no positive in {record.split} and are left out of the means: ",
            Markup(names.removeprefix(", ")),
            f"{more}.",
        )
    kept = _kept_now(record)
    if kept is not None and kept != (summary["weights"], summary["epoch"]):
        yield join(
            "The weights have changed since they were evaluated. Evaluate again with: ",
            command("python", "-m", "pumlc.evaluate", record.folder),
        )


def _kept_now(record: Record) -> tuple[str, int] | None:
    """Kind and epoch of the weights in the run folder; None where they cannot be told."""
    try:
        header = read_metadata(record.folder / "best.safetensors")
        return json.loads(header["weights"]), json.loads(header["epoch"])
    except (InputError, KeyError, ValueError):
        return None
