"""The training run: steps, log lines, evaluation, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pumlc.engine.config import Config
from pumlc.engine.console import Console
from pumlc.engine.cuda_graph import GraphedGradients
from pumlc.engine.distributed import World, join
from pumlc.engine.divergence import diverged
from pumlc.engine.ema import MovingAverage
from pumlc.engine.evaluator import Evaluator
from pumlc.engine.final_evaluation import judge_at_end
from pumlc.engine.interrupt import StoppedError, StopRequest, is_time_to_agree
from pumlc.engine.kept_weights import KeptWeights
from pumlc.engine.log import RunLog, start_run_folder, write_config, write_environment
from pumlc.engine.memorisation import Memorisation
from pumlc.engine.monitor import Monitor, Speed, Window, speed
from pumlc.engine.optimizer import build_optimizer
from pumlc.engine.precision import choose_precision
from pumlc.engine.reporting import conclude, draw, introduce
from pumlc.engine.resuming import decide
from pumlc.engine.run_lock import end_with_parent, lock
from pumlc.engine.saved_state import collect, restore
from pumlc.engine.saving import Saving
from pumlc.engine.setup import build_method, build_model, build_schedule, load_data, train_loader, use_threads
from pumlc.engine.tensorboard import EventFiles, need_tensorboard
from pumlc.errors import InputError
from pumlc.methods import Step
from pumlc.metrics.scores import Scores

FINISHED = 0  # exit status


def fit(config: Config, notes: Sequence[str] = ()) -> int:
    """Train as ``config`` says, alone or as one process of a torchrun job.

    Args:
        notes: on how the settings came about, for the log and the console.

    Returns:
        0 for a finished run, 130 or 143 for one that was asked to stop, by Ctrl-C or SIGTERM, and can be resumed.

    Raises:
        InputError: something given cannot be used; nothing was written.
        DivergedError: a loss or a score is not finite.
    """
    end_with_parent()
    with join(config.device, config.timeout_minutes) as world:
        return run_in(world, config, notes)


def run_in(world: World, config: Config, notes: Sequence[str] = ()) -> int:
    """`fit` among these processes; nothing of the trainer is left when it returns, so that they can part."""
    run_folder = Path(world.gather(config.out)[0])  # the default has the time in it
    with contextlib.ExitStack() as stack:
        world.on_main(lambda: stack.enter_context(lock(run_folder)))
        trainer = Trainer(decide(config, world), world, notes)
        stack.enter_context(trainer.request)
        return trainer.run()


class Trainer:
    """One run. ``step`` counts optimiser steps; the epoch and the place in it follow from that number alone."""

    def __init__(self, config: Config, world: World, notes: Sequence[str] = ()) -> None:
        if config.cuda_graph and (world.device.type != "cuda" or world.size > 1):
            found = "the CPU" if world.device.type != "cuda" else f"{world.size} processes"
            raise InputError(f"--cuda-graph is for one GPU; this run is on {found}. Leave the flag away.")
        if config.tensorboard:
            need_tensorboard()
        self.config, self.world = config, world
        self.request = StopRequest()
        self.run_folder = Path(world.gather(config.out)[0])  # the default has the time in it
        self.console = Console(world.is_main)
        threads = use_threads(config.threads, world)
        self.precision = choose_precision(config.precision, world.device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")

        self.data = load_data(config, world)
        self.class_names = self.data.splits.train.class_names
        self.model, self.warning, model_notes = build_model(config, self.data, world)
        self.notes = (*notes, *self.data.notes, *model_notes)
        self.loader = train_loader(config, self.data, world, threads, self.precision.images)
        self.evaluator = Evaluator(config, self.data, world, threads, self.precision, self.console, self._asked_to_stop)
        self.steps_per_epoch = len(self.loader)
        self.last_step = config.epochs * self.steps_per_epoch
        if config.steps is not None:
            self.last_step = min(self.last_step, config.steps)

        self.wrapped = world.wrap(self.model)
        self.average = None
        if config.ema_decay > 0:
            self.average = MovingAverage(self.model, config.ema_decay, warmup=config.ema_warmup)
        self.method = build_method(config, self.loader.labels, world)
        self.kept_weights = KeptWeights(self.run_folder, config, self.class_names, self.model, self.average, world)
        self.optimizer = build_optimizer(config, self.model, self.method.parameter_groups())
        self.schedule = build_schedule(config, self.steps_per_epoch)
        self.gradients = GraphedGradients(self._gradients, world.device) if config.cuda_graph else self._gradients
        self.monitor = Monitor(world, config.batch_size)
        self.memorisation = Memorisation(self.data.splits.train.labels, self.data.observed, world)
        torch.manual_seed(config.seed + world.rank)  # mixtures, dropout and the like differ between processes

        self.step, self.stopped_early = 0, False
        self.seconds_per_step: float | None = None  # of the last log line, on the first process
        self.evaluated = True  # the weights of this step, or there is nothing to be seen of them yet
        self.scores: dict[str, dict[str, Any]] = {}  # of the last evaluation, Scores by kind of weights
        self.resumed_from: int | None = None  # step in the name of the checkpoint
        self.best: dict[str, Any] | None = None  # on the val split: mAP, epoch, weights ("model" or "ema")
        self.saving = Saving(self.run_folder, config, world, self.kept_weights)
        if config.resume is not None:
            self.notes += self._restore()
        world.on_main(self._prepare_folder)
        self.log = world.on_main(self._open_log) or RunLog(None)

    def run(self) -> int:
        """Train to the last step and evaluate; the exit status."""
        start = time.perf_counter()
        all_windows: list[Window] = []
        introduce(self)
        if self.resumed_from not in (None, self.step):
            self.saving.renumber(self.step, self._save)
        try:
            while self.step < self.last_step or not self.evaluated:
                first_step, epoch_start, windows = self.step, time.perf_counter(), []
                within = self.step % self.steps_per_epoch > 0
                if self.evaluated or (within and self.step < self.last_step):
                    windows = self._train_epoch(self.step // self.steps_per_epoch)
                    all_windows += windows
                elif within:  # what was a checkpoint within an epoch is the last now
                    self._share_buffers()
                self._evaluate_or_save()
                if windows:
                    eta = (time.perf_counter() - epoch_start) * (self.last_step - self.step) / (self.step - first_step)
                    self._epoch_line(windows, eta)
                if self.step < self.last_step and self._asked_to_stop():
                    raise StoppedError
            self._finish(speed(all_windows), time.perf_counter() - start)
        except StoppedError:
            return self._stop()
        return FINISHED

    # Steps

    def _train_epoch(self, epoch: int) -> list[Window]:
        """Train to the end of the epoch or the last step, whichever comes first.

        Raises:
            StoppedError: the run was asked to stop within the epoch; it has saved itself.
        """
        self.wrapped.train()
        start = self.step % self.steps_per_epoch
        end = min(self.step - start + self.steps_per_epoch, self.last_step)
        title = f"epoch {epoch + 1}/{self.config.epochs}"
        windows: list[Window] = []
        with (
            contextlib.closing(self.loader.epoch(epoch, start)) as batches,
            self.console.bar(title, end - self.step + start, start) as bar,
        ):
            self.monitor.go_on()
            while self.step < end:
                asked = time.perf_counter()
                batch = next(batches)
                self.monitor.waited(time.perf_counter() - asked)
                lr = self.train_step(batch, epoch)
                bar.update()
                at_line = self.step % self.config.log_every == 0 or self.step == end
                if at_line:
                    windows.append(self._log_line(epoch, lr))
                # Several GPUs agree where the host waits anyway, at a log line, and every few seconds.
                can_agree = at_line or self.world.size == 1 or self.world.device.type == "cpu"
                can_agree = can_agree or is_time_to_agree(self.step, self.seconds_per_step)
                stop, due = self._agreed() if can_agree else (False, False)
                if self.step < end and (stop or due or self.saving.is_due_by_steps(self.step)):
                    self._save()
                    if stop:
                        raise StoppedError
                    self.monitor.go_on()
            if self.step % self.steps_per_epoch == 0:
                next(batches, None)  # the end of the epoch, seen by the loader, lets it keep its pipeline
        self._share_buffers()
        self.data.pictures.share(self.world, self.log)
        if self.step % self.steps_per_epoch == 0:
            self._end_epoch(epoch)
        return windows

    def _agreed(self) -> tuple[bool, bool]:
        """Whether the run shall stop, and whether it is time for a checkpoint; all processes call it together."""
        return self.world.any(self.request.received, self.saving.is_due_by_clock())

    def _asked_to_stop(self) -> bool:
        return self._agreed()[0]

    def train_step(self, batch: Any, epoch: int) -> float:
        """One optimiser step on a batch; nothing in it waits for the device. Returns the learning rate."""
        lr = self.schedule.apply(self.optimizer, self.step)
        scaler = self.precision.scaler
        step = self.gradients(batch, epoch)
        if self.config.clip_norm is not None:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        scaler.step(self.optimizer)
        scaler.update()
        if not (self.config.cuda_graph and self.gradients.captured):
            self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()
        self.step += 1
        self.evaluated = False
        self.monitor.add(self.step, step, batch.labels)
        self.memorisation.add(batch.index, step.logits)
        return lr

    def _gradients(self, batch: Any, epoch: int) -> Step:
        """Forward and backward pass; the results are detached."""
        with self.precision.autocast():
            step = self.method(self.wrapped, batch, epoch)
        self.precision.scaler.scale(step.loss).backward()
        return step._replace(loss=step.loss.detach())

    def _end_epoch(self, epoch: int) -> None:
        """Let the method do what is due after a whole epoch."""
        numbers = self.method.end_epoch(epoch)
        if numbers:
            self.log.event("method", epoch=epoch + 1, step=self.step, **numbers)
            self.console.numbers(self.config.method, numbers)
        if self.memorisation.is_known:
            self.memorisation.end_epoch(epoch)
            self.log.event("memorisation", step=self.step, **self.memorisation.history[-1])

    def _stop_early(self) -> None:
        """Make this step the last where the val split says so."""
        if self.config.early_stop is None:
            return
        best, now = self.best["mAP"], max(each["mean_ap"] for each in self.scores.values())
        if best - now > self.config.early_stop and self.step < self.last_step:
            self.stopped_early, self.last_step = True, self.step
            self.log.event("early_stop", step=self.step, epoch=self.epoch_of_last_step, best=best, mAP=now)
            self.console.say(
                f"val mAP {now:.2f} is more than {self.config.early_stop:g} below {best:.2f}: stopping here"
            )

    def _share_buffers(self) -> None:
        """Average the BatchNorm statistics, which each process moves on by its own share of the images."""
        self.world.mean(self.model.moving_buffers())
        if self.average is not None:
            self.world.mean(self.average.buffers())

    def _log_line(self, epoch: int, lr: float) -> Window:
        window = self.monitor.read()
        self._end_if_diverged(window.bad_step)
        images_per_step = self.config.batch_size * self.world.size
        self.seconds_per_step = self.world.gather(window.seconds)[0] * images_per_step / window.images
        self.log.event(
            "train",
            epoch=epoch + 1,
            step=self.step,
            loss=window.loss,
            **{f"loss_{name}": value for name, value in window.parts.items()},
            lr=lr,
            images_per_second=round(window.images / window.seconds, 2),
            data_wait=round(window.wait, 4),
        )
        return window

    def _end_if_diverged(self, bad_step: int | None) -> None:
        if bad_step is not None:
            self.log.event("diverged", step=bad_step)
            raise diverged(bad_step, self.monitor, self.method, self.class_names, self.world, self.run_folder)

    def _epoch_line(self, windows: Sequence[Window], eta: float) -> None:
        split = self.evaluator.selection_split
        scores = {kind: Scores(**each) for kind, each in self.scores.items()}
        self.console.epoch(self.epoch_of_last_step, self.config.epochs, windows, split, scores, eta)

    # Evaluation

    @property
    def epoch_of_last_step(self) -> int:
        """Epoch of the newest step, counted from 1."""
        return (self.step - 1) // self.steps_per_epoch + 1

    @property
    def final_weights(self) -> str:
        return "model" if self.average is None else "ema"

    def _evaluate_or_save(self) -> None:
        """Evaluate and save what the run is now, or only save it if it shall stop, which it raises StoppedError for."""
        if self._agreed()[1]:
            self._save()  # an evaluation may take long
        log_size = self.log.sync()
        try:
            scores = self._evaluate_epoch()
        except StoppedError:
            self._save(log_size)
            raise
        self.scores, self.evaluated = {kind: dataclasses.asdict(each) for kind, each in scores.items()}, True
        self._stop_early()
        self._save()

    def _evaluate_epoch(self) -> dict[str, Scores]:
        """Evaluate, and keep the weights: the best on val, or the last ones where nothing may be selected on."""
        split, epoch = self.evaluator.selection_split, self.epoch_of_last_step
        if split is None and self._asked_to_stop():
            raise StoppedError
        scores = {} if split is None else self._evaluate(split)
        if split != "val":
            self.kept_weights.save(self.final_weights, epoch, self.step, selected_on=None)
            return scores
        if self.evaluator.maxima is not None:
            self._evaluate("test")
        kind = max(scores, key=lambda kind: scores[kind].mean_ap)
        if self.best is None or not self.best["mAP"] >= scores[kind].mean_ap:
            self.best = {"mAP": scores[kind].mean_ap, "epoch": epoch, "weights": kind}
            self.kept_weights.save(kind, epoch, self.step, selected_on=split)
        return scores

    def last_scores(self) -> Scores | None:
        """Those of the final weights in the last evaluation."""
        scores = self.scores.get(self.final_weights)
        return None if scores is None else Scores(**scores)

    def _evaluate(self, split: str) -> dict[str, Scores]:
        """Scores of the weights of this step, "model" and "ema"."""
        answers = self.evaluator.answers(split, self.model, self.average, self.log)
        return self.evaluator.score(split, answers, self.log, epoch=self.epoch_of_last_step, step=self.step)

    # Disk

    def _prepare_folder(self) -> None:
        if self.config.resume is None:
            start_run_folder(self.run_folder, self.config)
        else:
            write_environment(self.run_folder)
            write_config(self.run_folder, self.config)

    def _open_log(self) -> RunLog:
        return RunLog(self.run_folder, EventFiles(self.run_folder) if self.config.tensorboard else None)

    def _save(self, log_size: int | None = None) -> None:
        """Write a checkpoint of this step; ``log_size`` as for :meth:`Saving.save`."""
        self._end_if_diverged(self.monitor.bad_step())
        self.data.pictures.share(self.world, self.log)
        self.saving.save(self.step, collect(self), self.log, log_size)

    def _restore(self) -> tuple[str, ...]:
        """Go back to the newest whole checkpoint; what a person should know about it."""
        found, state = self.saving.newest()
        notes = restore(self, state, found.path)
        self.resumed_from = state["step"]
        if self.stopped_early:
            self.last_step = self.step
        return (*notes, *self.saving.go_back(found, state))

    # Beginning and end

    def _stop(self) -> int:
        """Say that the run stopped; the exit status."""
        statuses = [
            status for received, status in self.world.gather((self.request.received, self.request.status)) if received
        ]
        status = min(statuses)  # a person at the keyboard before a scheduler
        self.log.event("interrupted", step=self.step, status=status)
        draw(self)
        self.console.stopped(self.run_folder)
        return status

    def _finish(self, pace: Speed, seconds: float) -> None:
        """Judge the weights that are kept, and report."""
        conclude(self, judge_at_end(self), pace, seconds)
