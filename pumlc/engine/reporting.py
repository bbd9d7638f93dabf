"""What a run says of itself at its beginning and at its end: to the log, and to the person at the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pumlc.engine.final_evaluation import Outcome
from pumlc.engine.monitor import Speed
from pumlc.engine.published_evaluation import NAME

if TYPE_CHECKING:
    from pumlc.engine.trainer import Trainer


def introduce(run: Trainer) -> None:
    """Say what is trained, on what, and where it begins."""
    processes = f"{run.world.size} processes, " if run.world.size > 1 else ""
    about = "\n".join((run.data.summary(), run.model.summary(), *run.notes))
    run.console.say(
        f"{about}\n"
        f"on: {processes}{run.world.device.type}, {run.precision.name}, {torch.get_num_threads()} threads; "
        f"{run.steps_per_epoch} steps of {run.config.batch_size * run.world.size} images per epoch"
    )
    run.console.say(run.warning)
    run.console.say(run.config.resume and f"resumed after step {run.step} of {run.last_step}")
    run.log.event(
        "resume" if run.config.resume else "start",
        step=run.step,
        last_step=run.last_step,
        steps_per_epoch=run.steps_per_epoch,
        images=len(run.data.splits.train),
        selected_on="val" if run.data.splits.val is not None else None,
        classes=len(run.class_names),
        method=run.config.method,
        head=run.config.head,
        notes=run.notes,
        local_global_convolutions=len(run.model.conversion.wrapped),
        processes=run.world.size,
        device=str(run.world.device),
        precision=run.precision.name,
        warning=run.warning,
    )


def conclude(run: Trainer, outcome: Outcome, pace: Speed, seconds: float) -> None:
    """Say what came out of it."""
    maxima = run.evaluator.maxima
    chosen, judged = outcome.chosen, outcome.judged
    run.log.event(
        "end",
        split=outcome.split,
        weights=outcome.kind,
        mAP=chosen and chosen.mean_ap,
        mAP_last=outcome.last and outcome.last.mean_ap,
        CF1=chosen and chosen.cf1,
        OF1=chosen and chosen.of1,
        **(_judgement(judged) if judged else {}),
        **(chosen.of_images if chosen else {}),
        classes_without_positives=chosen and chosen.left_out,
        bad_pictures=run.data.pictures.counts(),
        best_on_val=run.best,
        images_per_second=round(pace.images_per_second, 2),
        data_wait=round(pace.wait, 4),
        seconds=round(seconds, 2),
        step=run.step,
        **({} if maxima is None else {NAME: maxima.values}),
    )
    run.log.close()
    run.console.finished(outcome, pace, seconds, run.warning)
    if maxima is not None:
        run.console.say(maxima.summary())
    draw(run)
    run.console.next_steps(run.run_folder, run.evaluator.example)


def _judgement(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the log's last line has of the scores in evaluation.json."""
    after = scores["reliability"]["after"]
    return {
        **{name: scores[name] for name in ("mAP_interval", "mAP_published", "CF1_thresholds", "OF1_thresholds")},
        "ECE": scores["reliability"]["before"]["ECE"],
        "ECE_calibrated": after and after["ECE"],
    }


def draw(run: Trainer) -> None:
    """Draw what there is to be seen, and say what could not be."""
    run.console.say(run.data.pictures.summary())
    if run.world.is_main and run.memorisation.history:
        title = f"{run.config.method} on {run.data.splits.train.name}"
        run.console.say(run.memorisation.draw(run.run_folder, title))
