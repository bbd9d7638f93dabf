"""The end of a run: its weights judged on what was held out, calibrated there, and all of it written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pumlc.engine.evaluation_files import EvaluatedSplit, write_split, write_summary
from pumlc.engine.evaluator import Answers
from pumlc.engine.judging import KEPT, fit_to, judge_run
from pumlc.metrics.scores import Scores

if TYPE_CHECKING:
    from pumlc.engine.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    split: str | None  # that is reported on: test, else val, else none
    kind: str  # of the weights that are kept, in words
    selected: bool  # whether these were chosen on val
    chosen: Scores | None  # of those weights
    last: Scores | None  # of the weights of the last step
    summary: dict[str, Any] | None  # the content of evaluation.json, on the first process alone

    @property
    def judged(self) -> dict[str, Any] | None:
        """The scores of the kept weights on that split, as in evaluation.json."""
        return self.summary and self.summary["splits"][self.split]["scores"][KEPT]


def judge_at_end(run: Trainer) -> Outcome:
    """Report on the test split where there is one, with the weights that are kept and with the last ones.

    Where there is a val split, calibration and thresholds are fitted to it and kept with the weights.

    Raises:
        StoppedError: the run shall stop.
    """
    evaluator, selected = run.evaluator, run.best is not None
    weights, epoch, kind = run.final_weights, run.epoch_of_last_step, run.final_weights
    chosen = last = run.last_scores()
    last_answers: dict[str, Answers] = {}
    if selected:
        weights, epoch = run.best["weights"], run.best["epoch"]
        kind = f"best on val ({weights} of epoch {epoch})"
        if "test" in evaluator.splits:
            last_answers["test"] = evaluator.answers("test", run.model, run.average, run.log)
            scores = evaluator.score("test", last_answers["test"], run.log, epoch=run.epoch_of_last_step, step=run.step)
            last = scores[run.final_weights]
    if not evaluator.splits:
        return Outcome(None, kind, selected, None, None, None)

    run.kept_weights.load()
    answers = {split: evaluator.answers(split, run.model, None, run.log) for split in evaluator.splits}
    split = evaluator.splits[-1]
    if selected:
        scores = evaluator.score(split, answers[split], run.log, epoch=epoch, step=run.step, weights="best")
        chosen = scores["model"]
    kept = [_evaluated(run, name, each, "model", weights, epoch) for name, each in answers.items()]
    others = {
        name: _evaluated(run, name, each, run.final_weights, run.final_weights, run.epoch_of_last_step)
        for name, each in last_answers.items()
    }
    summary = run.world.on_main(lambda: _write(run, kept, others, selected))
    return Outcome(split, kind, selected, chosen, last, summary)


def _evaluated(run: Trainer, split: str, answers: Answers, kind: str, weights: str, epoch: int) -> EvaluatedSplit:
    """What ``kind`` of the answers say, where these are the ``weights`` of an epoch."""
    dataset = run.evaluator.dataset(split)
    labels = torch.from_numpy(dataset.labels)
    return EvaluatedSplit(
        answers.logits[kind],
        labels,
        labels,
        answers.usable,
        dataset.paths,
        dataset.class_names,
        split,
        weights,
        epoch,
    )


def _write(
    run: Trainer, kept: Sequence[EvaluatedSplit], last: Mapping[str, EvaluatedSplit], selected: bool
) -> dict[str, Any]:
    """The folder of the evaluation, and what was fitted into the header of the kept weights."""
    fitted = next((fit_to(each) for each in kept if each.split == "val"), None)
    if fitted is not None:
        run.kept_weights.describe(fitted.header())
    for each in kept:
        write_split(run.run_folder, each)
    summary = judge_run(kept, fitted, "val" if selected else None, last)
    write_summary(run.run_folder, summary)
    return summary
