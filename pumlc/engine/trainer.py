"""The training run: steps, log lines, evaluation, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pumlc.engine.checkpoint import check_fits, load_checkpoint, save_checkpoint
from pumlc.engine.config import Config
from pumlc.engine.console import Console
from pumlc.engine.cuda_graph import GraphedGradients
from pumlc.engine.distributed import World, join, random_states, restore_random_state
from pumlc.engine.divergence import diverged
from pumlc.engine.ema import MovingAverage
from pumlc.engine.evaluator import Evaluator
from pumlc.engine.interrupt import StopRequest
from pumlc.engine.kept_weights import KeptWeights
from pumlc.engine.log import RunLog, start_run_folder, write_environment
from pumlc.engine.memorisation import Memorisation
from pumlc.engine.metrics import Scores
from pumlc.engine.monitor import Monitor, Speed, Window, speed
from pumlc.engine.optimizer import build_optimizer
from pumlc.engine.precision import choose_precision
from pumlc.engine.published_evaluation import NAME
from pumlc.engine.setup import build_method, build_model, build_schedule, load_data, train_loader, use_threads
from pumlc.errors import InputError
from pumlc.methods import Step

FINISHED, INTERRUPTED = 0, 130  # exit statuses


def fit(config: Config, notes: Sequence[str] = ()) -> int:
    """Train as ``config`` says, alone or as one process of a torchrun job.

    Args:
        notes: on how the settings came about, for the log and the console.

    Returns:
        0 for a finished run, 130 for one that was asked to stop and can be resumed.

    Raises:
        InputError: something given cannot be used; nothing was written.
        DivergedError: a loss or a score is not finite.
    """
    with join(config.device) as world:
        return run_in(world, config, notes)


def run_in(world: World, config: Config, notes: Sequence[str] = ()) -> int:
    """`fit` among these processes; nothing of the trainer is left when it returns, so that they can part."""
    trainer = Trainer(config, world, notes)
    with trainer.request:
        return trainer.run()


class Trainer:
    """One run. ``step`` counts optimiser steps; the epoch and the place in it follow from that number alone."""

    def __init__(self, config: Config, world: World, notes: Sequence[str] = ()) -> None:
        if config.cuda_graph and (world.device.type != "cuda" or world.size > 1):
            found = "the CPU" if world.device.type != "cuda" else f"{world.size} processes"
            raise InputError(f"--cuda-graph is for one GPU; this run is on {found}. Leave the flag away.")
        self.config, self.world = config, world
        self.request = StopRequest()
        self.run_folder = Path(world.gather(config.out)[0])  # the default has the time in it
        self.console = Console(world.is_main)
        threads = use_threads(config, world)
        self.precision = choose_precision(config.precision, world.device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")

        self.data = load_data(config, world)
        self.class_names = self.data.splits.train.class_names
        self.model, self.warning, model_notes = build_model(config, self.data, world)
        self.notes = (*notes, *model_notes)
        self.loader = train_loader(config, self.data, world, threads, self.precision.images)
        self.evaluator = Evaluator(config, self.data, world, threads, self.precision, self.console)
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
        self.best: dict[str, Any] | None = None  # on the val split: mAP, epoch, weights ("model" or "ema")
        if config.resume is not None:
            self._restore()
        world.on_main(self._prepare_folder)
        self.log = RunLog(self.run_folder if world.is_main else None)

    def run(self) -> int:
        """Train to the last step and evaluate; the exit status."""
        start = time.perf_counter()
        all_windows: list[Window] = []
        self._introduce()
        scores: dict[str, Scores] | None = None
        while self.step < self.last_step:
            epoch, first_step, epoch_start = self.step // self.steps_per_epoch, self.step, time.perf_counter()
            windows = self._train_epoch(epoch)
            all_windows += windows
            stopping = windows[-1].stop and self.step < self.last_step
            self._share_buffers()
            self.data.pictures.share(self.world, self.log)
            if stopping and self.step % self.steps_per_epoch:
                self._save()
                return self._stop()
            if self.step % self.steps_per_epoch == 0:
                self._end_epoch(epoch)
            scores = self._evaluate_epoch()
            self._stop_early(scores)
            self._save()
            eta = (time.perf_counter() - epoch_start) * (self.last_step - self.step) / (self.step - first_step)
            self.console.epoch(epoch + 1, self.config.epochs, windows, self.evaluator.selection_split, scores, eta)
            if stopping:
                return self._stop()
        if scores is None:  # resumed after the last step
            scores = self._evaluate_epoch()
        self._finish(scores, speed(all_windows), time.perf_counter() - start)
        return FINISHED

    # Steps

    def _train_epoch(self, epoch: int) -> list[Window]:
        """Train to the end of the epoch, the last step, or the stop request, whichever comes first."""
        self.wrapped.train()
        start = self.step % self.steps_per_epoch
        end = min(self.step - start + self.steps_per_epoch, self.last_step)
        title = f"epoch {epoch + 1}/{self.config.epochs}"
        windows: list[Window] = []
        with (
            contextlib.closing(self.loader.epoch(epoch, start)) as batches,
            self.console.bar(title, end - self.step + start, start) as bar,
        ):
            self.monitor.restart()
            while self.step < end and not (windows and windows[-1].stop):
                asked = time.perf_counter()
                batch = next(batches)
                self.monitor.waited(time.perf_counter() - asked)
                lr = self.train_step(batch, epoch)
                bar.update()
                # Several GPUs agree on stopping where the host waits anyway: at a log line. On CPUs steps are long.
                asking = self.world.size == 1 or self.world.device.type == "cpu"
                stop = asking and self.world.any(self.request.received)
                if self.step % self.config.log_every == 0 or self.step == end or stop:
                    windows.append(self._log_line(epoch, lr))
            if self.step % self.steps_per_epoch == 0:
                next(batches, None)  # the end of the epoch, seen by the loader, lets it keep its pipeline
        return windows

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

    def _stop_early(self, scores: dict[str, Scores]) -> None:
        """Make this step the last where the val split says so."""
        if self.config.early_stop is None:
            return
        best, now = self.best["mAP"], max(each.mean_ap for each in scores.values())
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
        window = self.monitor.read(self.request.received)
        if window.bad_step is not None:
            self.log.event("diverged", step=window.bad_step)
            raise diverged(window.bad_step, self.monitor, self.method, self.class_names, self.world, self.run_folder)
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

    # Evaluation

    @property
    def epoch_of_last_step(self) -> int:
        """Epoch of the newest step, counted from 1."""
        return (self.step - 1) // self.steps_per_epoch + 1

    @property
    def final_weights(self) -> str:
        return "model" if self.average is None else "ema"

    def _evaluate_epoch(self) -> dict[str, Scores]:
        """Evaluate, and keep the weights: the best on val, or the last ones where nothing may be selected on."""
        split, epoch = self.evaluator.selection_split, self.epoch_of_last_step
        if split is None:
            self.kept_weights.save(self.final_weights, epoch)
            return {}
        scores = self._evaluate(split, epoch)
        if split != "val":
            self.kept_weights.save(self.final_weights, epoch)
            return scores
        if self.evaluator.maxima is not None:
            self._evaluate("test", epoch)
        kind = max(scores, key=lambda kind: scores[kind].mean_ap)
        if self.best is None or not self.best["mAP"] >= scores[kind].mean_ap:
            self.best = {"mAP": scores[kind].mean_ap, "epoch": epoch, "weights": kind}
            self.kept_weights.save(kind, epoch)
        return scores

    def _evaluate(self, split: str, epoch: int, *, best: bool = False) -> dict[str, Scores]:
        """Scores by kind of weights, "model" and "ema"; ``best``: the model holds the best weights, read back."""
        average, weights = (None, "best") if best else (self.average, "last")
        return self.evaluator.evaluate(
            split, self.model, average, self.log, epoch=epoch, step=self.step, weights=weights
        )

    # Disk

    def _prepare_folder(self) -> None:
        if self.config.resume is None:
            start_run_folder(self.run_folder, self.config)
        else:
            write_environment(self.run_folder)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "stopped_early": self.stopped_early,
            "steps_per_epoch": self.steps_per_epoch,
            "class_names": list(self.class_names),
            "best": self.best,
            "maxima": self.evaluator.maxima and self.evaluator.maxima.values,
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "method": self.method.state_dict(),
            "memorisation": self.memorisation.state_dict(),
            "random": random_states(self.world),
        }
        folder = self.run_folder / "checkpoints"
        path = self.world.on_main(lambda: save_checkpoint(folder, self.step, state))
        self.log.event("checkpoint", step=self.step, path=str(path))

    def _restore(self) -> None:
        path, state = load_checkpoint(self.run_folder / "checkpoints")
        check_fits(state, self.run_folder, self.class_names, self.steps_per_epoch)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise InputError(f"The checkpoint {path} does not fit the model: {error}") from error
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.method.load_state_dict(state["method"])
        self.memorisation.load_state_dict(state["memorisation"])
        self.step, self.best, self.stopped_early = state["step"], state["best"], state["stopped_early"]
        if self.stopped_early:
            self.last_step = self.step
        if self.evaluator.maxima is not None:
            self.evaluator.maxima.values = state["maxima"]
        restore_random_state(self.world, state["random"])

    # Beginning and end

    def _introduce(self) -> None:
        processes = f"{self.world.size} processes, " if self.world.size > 1 else ""
        about = "\n".join((self.data.summary(), self.model.summary(), *self.notes))
        self.console.say(
            f"{about}\n"
            f"on: {processes}{self.world.device.type}, {self.precision.name}, {torch.get_num_threads()} threads; "
            f"{self.steps_per_epoch} steps of {self.config.batch_size * self.world.size} images per epoch"
        )
        self.console.say(self.warning)
        self.console.say(self.config.resume and f"resumed after step {self.step} of {self.last_step}")
        self.log.event(
            "resume" if self.config.resume else "start",
            step=self.step,
            last_step=self.last_step,
            steps_per_epoch=self.steps_per_epoch,
            images=len(self.data.splits.train),
            classes=len(self.class_names),
            method=self.config.method,
            head=self.config.head,
            notes=self.notes,
            local_global_convolutions=len(self.model.conversion.wrapped),
            processes=self.world.size,
            device=str(self.world.device),
            precision=self.precision.name,
            warning=self.warning,
        )

    def _stop(self) -> int:
        self.log.event("interrupted", step=self.step)
        self._report()
        self.console.stopped(self.run_folder)
        return INTERRUPTED

    def _finish(self, last: dict[str, Scores], pace: Speed, seconds: float) -> None:
        """Report on the test split where there is one: with the best weights on val, and with the last ones."""
        split, kind = self.evaluator.selection_split, self.final_weights
        last_scores = chosen = last.get(self.final_weights)
        if split == "val":
            kind = f"best on val ({self.best['weights']} of epoch {self.best['epoch']})"
            if "test" in self.evaluator:
                split = "test"
                last_scores = self._evaluate(split, self.epoch_of_last_step)[self.final_weights]
            self.kept_weights.load()
            chosen = self._evaluate(split, self.best["epoch"], best=True)["model"]
        maxima = self.evaluator.maxima
        self.log.event(
            "end",
            split=split,
            weights=kind,
            mAP=chosen and chosen.mean_ap,
            mAP_last=last_scores and last_scores.mean_ap,
            CF1=chosen and chosen.cf1,
            OF1=chosen and chosen.of1,
            **(chosen.of_images if chosen else {}),
            classes_without_positives=chosen and chosen.left_out,
            bad_pictures=self.data.pictures.counts(),
            best_on_val=self.best,
            images_per_second=round(pace.images_per_second, 2),
            data_wait=round(pace.wait, 4),
            seconds=round(seconds, 2),
            step=self.step,
            **({} if maxima is None else {NAME: maxima.values}),
        )
        self.log.close()
        self.console.finished(split, kind, chosen, last_scores, pace, seconds, self.warning)
        if maxima is not None:
            self.console.say(maxima.summary())
        self._report()
        self.console.next_steps(self.run_folder, self.evaluator.example)

    def _report(self) -> None:
        """Draw what there is to be seen, and say what could not be."""
        self.console.say(self.data.pictures.summary())
        if self.world.is_main and self.memorisation.history:
            title = f"{self.config.method} on {self.data.splits.train.name}"
            self.console.say(self.memorisation.draw(self.run_folder, title))
