"""What a person sees of a run."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pumlc.engine.monitor import Speed, Window, speed
from pumlc.errors import require
from pumlc.metrics.bootstrap import FEW_POSITIVES
from pumlc.metrics.scores import Scores

if TYPE_CHECKING:
    from pumlc.engine.final_evaluation import Outcome


class Bar(Protocol):
    def update(self, done: int = 1) -> object: ...


class Console:
    """Prints on the first process and is silent on the others."""

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks

    def say(self, text: str | None) -> None:
        """Print a text, where there is one."""
        if self._speaks and text:
            print(text, flush=True)

    @contextlib.contextmanager
    def bar(self, title: str, total: int, start: int = 0, unit: str = "step") -> Iterator[Bar]:
        """A progress bar that is gone afterwards; none where the output is no terminal."""
        hidden = None if self._speaks else True  # None: tqdm looks whether there is a terminal
        tqdm = require("tqdm").tqdm
        with tqdm(total=total, initial=start, desc=title, unit=unit, leave=False, disable=hidden) as bar:
            yield bar

    def epoch(
        self,
        number: int,
        last: int,
        windows: Sequence[Window],
        split: str | None,
        scores: dict[str, Scores],
        eta: float,
    ) -> None:
        """One line for epoch ``number``; ``eta`` in seconds."""
        loss = sum(window.loss * window.images for window in windows) / sum(window.images for window in windows)
        rate, wait = speed(windows)
        held_out = "  nothing held out" if split is None else f"  {split} mAP {scores['model'].mean_ap:5.2f}"
        if "ema" in scores:
            held_out += f" (EMA {scores['ema'].mean_ap:5.2f})"
        width = len(str(last))
        self.say(
            f"epoch {number:{width}}/{last}  loss {loss:8.4f}  {rate:6.1f} img/s, {wait:3.0%} waiting for data"
            f"{held_out}  ETA {clock(eta)}"
        )

    def numbers(self, title: str, values: Mapping[str, float]) -> None:
        """One line with what is counted besides."""
        self.say(f"{title}: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items()))

    def stopped(self, run: Path) -> None:
        self.say(f"Stopped; everything is saved. Go on with:\n  python train.py --resume {shlex.quote(str(run))}")

    def finished(self, outcome: Outcome, pace: Speed, seconds: float, warning: str | None) -> None:
        """The results."""
        self.say("\n".join(_results(outcome)))
        training = "no step was trained"
        if pace.images_per_second > 0:
            training = (
                f"{pace.images_per_second:.1f} img/s in training, of which {pace.wait:.1%} of the time waiting for data"
            )
        self.say(f"{training}; {clock(seconds)} in all")
        if warning:
            self.say(warning)

    def next_steps(self, run: Path, picture: str | None) -> None:
        example = shlex.quote(picture) if picture else "IMAGE.jpg"
        folder = shlex.quote(str(run))
        self.say(
            f"Run folder: {run} (log.jsonl holds every number)\n"
            f"Try next: python -m pumlc.predict {folder} {example}\n"
            f"          python -m pumlc.report {folder}"
        )


def clock(seconds: float) -> str:
    """75 -> 1:15, 3675 -> 1:01:15."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def one_line(name: str) -> str:
    """A stranger's name of a file or class; quoted, with escapes, where it would break or turn the line."""
    return name if name.isprintable() else json.dumps(name)


def on_interval(judged: Mapping[str, Any]) -> Iterator[str]:
    """What to know of the interval in the scores of ``evaluation.json``; those of older runs say nothing."""
    if few := judged.get("classes_with_few_positives"):
        classes = "class has" if few == 1 else "classes have"
        yield f"the interval is not to be relied on: {few} {classes} fewer than {FEW_POSITIVES} positives"


def _results(outcome: Outcome) -> Iterator[str]:
    """Lines on how good the kept weights are, and on what was chosen where."""
    chosen, last, judged = outcome.chosen, outcome.last, outcome.judged
    if chosen is None or last is None or judged is None:
        yield "No held-out split: there is no mAP to report, and nothing was chosen or calibrated."
        return
    low, high = judged["mAP_interval"]
    yield (
        f"{outcome.split} mAP {chosen.mean_ap:.2f} % (95 % interval {low:.2f} to {high:.2f})"
        + "".join(f", {name.replace('_', ' ')} {value:.2f}" for name, value in chosen.of_images.items())
        + f", weights: {outcome.kind}"
        + (f"; mAP {last.mean_ap:.2f} % with the last weights" if chosen is not last else "")
        + (f"; {chosen.left_out} classes without positives left out" if chosen.left_out else "")
        + "".join(f"; {remark}" for remark in on_interval(judged))
    )
    at_half = f"CF1 {chosen.cf1:.2f}, OF1 {chosen.of1:.2f} at 0.5"
    before, after = (judged["reliability"][when] for when in ("before", "after"))
    if after is None:
        yield f"{at_half}; calibration error {before['ECE']:.2f} %"
        yield (
            f"Nothing was chosen on {outcome.split}: these are the weights of the last step. Without a val split there "
            "are no thresholds and no calibration."
        )
        return
    yield f"{at_half}; CF1 {judged['CF1_thresholds']:.2f}, OF1 {judged['OF1_thresholds']:.2f} at thresholds from val"
    yield f"calibration error {before['ECE']:.2f} %, {after['ECE']:.2f} % calibrated on val"
    if outcome.split == "val":
        yield "Weights, thresholds and calibration were chosen on val itself: on other images they do worse."
