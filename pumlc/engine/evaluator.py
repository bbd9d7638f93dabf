"""Evaluation of a run: the held-out splits, the scores of the current weights on them, their log lines."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pumlc.data import Dataset
from pumlc.engine.config import Config
from pumlc.engine.console import Console
from pumlc.engine.distributed import World
from pumlc.engine.divergence import check_logits
from pumlc.engine.ema import MovingAverage
from pumlc.engine.evaluation import logits_of_split
from pumlc.engine.interrupt import StoppedError
from pumlc.engine.log import RunLog
from pumlc.engine.precision import Precision
from pumlc.engine.published_evaluation import NAME, TestSetMaxima
from pumlc.engine.setup import Data, evaluation_loader
from pumlc.errors import InputError
from pumlc.metrics.ranking import f1_per_image, top_accuracy
from pumlc.metrics.scores import Scores, score
from pumlc.nn.backbone import BackboneNetwork


class Answers(NamedTuple):
    """What weights say of the N images of a split."""

    logits: dict[str, Tensor]  # [N, C] float32 on the CPU, by kind of weights: "model", and maybe "ema"
    usable: Tensor  # [N] bool, False where the picture cannot be used, and the logits mean nothing
    seconds: float  # that it took


class Evaluator:
    """Scores a model on the val and test splits, as far as they are there.

    Args:
        asked_to_stop: whether the run shall stop, the same on all processes, which call it together.

    Raises:
        InputError: the test-set maxima are asked for and there is no test split, or an early stop and no val split.
    """

    def __init__(
        self,
        config: Config,
        data: Data,
        world: World,
        threads: int,
        precision: Precision,
        console: Console,
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._world, self._precision, self._console = world, precision, console
        self._pictures = data.pictures
        self._asked_to_stop = asked_to_stop
        # several GPUs have to wait for the answer
        self._ask_every = 8 if world.size > 1 and world.device.type == "cuda" else 1
        self._splits = {
            split.split: (split, evaluation_loader(config, data, split, world, threads, precision.images))
            for split in (data.splits.val, data.splits.test)
            if split is not None
        }
        if config.published_evaluation and data.splits.test is None:
            raise InputError(f"--published-evaluation needs a test split, and {data.splits.train.name} has none.")
        if config.early_stop is not None and data.splits.val is None:
            raise InputError(
                f"--early-stop looks at a val split, and {data.splits.train.name} has none. Add --hold-out 0.2, or "
                "leave the flag away."
            )
        self.maxima = TestSetMaxima() if config.published_evaluation else None
        self._scores_of_images = scores_of_images(config)

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that are there, val before test."""
        return tuple(self._splits)

    def dataset(self, split: str) -> Dataset:
        return self._splits[split][0]

    @property
    def selection_split(self) -> str | None:
        """The split that is evaluated after every epoch: val, else test, else none."""
        return next(iter(self._splits), None)

    @property
    def example(self) -> str | None:
        """A picture that was held out, of the test split where there is one."""
        return str(self.dataset(self.splits[-1]).paths[0]) if self.splits else None

    def answers(self, split: str, model: BackboneNetwork, average: MovingAverage | None, log: RunLog) -> Answers:
        """What the weights of the model, and of the average where there is one, say of a split.

        Raises:
            StoppedError: the run shall stop.
        """
        start = time.perf_counter()
        dataset, loader = self._splits[split]
        shared = -(-(len(dataset) // self._world.size) // loader.batch_size)  # batches that every process has
        with self._console.bar(f"evaluate {split}", len(loader)) as bar:
            done = itertools.count()

            def stop_if_asked() -> None:
                number = next(done)
                if number <= shared and number % self._ask_every == 0 and self._asked_to_stop():
                    raise StoppedError

            def tick() -> None:
                bar.update()
                stop_if_asked()

            stop_if_asked()
            logits = logits_of_split(
                model, loader, self._world, average=average, autocast=self._precision.autocast, tick=tick
            )
        self._pictures.share(self._world, log)
        usable = torch.from_numpy(~self._pictures.quarantines[split].bad)
        return Answers(logits, usable, time.perf_counter() - start)

    def score(
        self, split: str, answers: Answers, log: RunLog, *, epoch: int, step: int, weights: str = "last"
    ) -> dict[str, Scores]:
        """Scores by kind of weights, logged with these numbers.

        Args:
            weights: "last", or "best" where those of "model" were chosen on val and read back.
        """
        dataset = self.dataset(split)
        labels = torch.from_numpy(dataset.labels)[answers.usable]
        logits = {kind: values[answers.usable] for kind, values in answers.logits.items()}
        scores = {kind: self._score(values, labels) for kind, values in logits.items()}
        plain, ema = scores["model"], scores.get("ema")
        log.event(
            "eval",
            epoch=epoch,
            step=step,
            split=split,
            weights=weights,
            mAP=plain.mean_ap,
            mAP_ema=ema and ema.mean_ap,
            CF1=plain.cf1,
            CF1_ema=ema and ema.cf1,
            OF1=plain.of1,
            OF1_ema=ema and ema.of1,
            **plain.of_images,
            **{f"{name}_ema": value for name, value in (ema.of_images if ema else {}).items()},
            classes_without_positives=plain.left_out,
            bad_pictures=len(dataset) - len(labels),
            AP=dict(zip(dataset.class_names, plain.ap, strict=True)),
            AP_ema=ema and dict(zip(dataset.class_names, ema.ap, strict=True)),
            seconds=round(answers.seconds, 3),
        )
        if self.maxima is not None and split == "test" and weights == "last":  # the best were the last once
            self.maxima.update(logits, labels)
            log.event(NAME, epoch=epoch, step=step, **self.maxima.values)
        return scores

    def _score(self, logits: Tensor, labels: Tensor) -> Scores:
        check_logits(logits)
        of_images = {name: function(logits, labels) for name, function in self._scores_of_images.items()}
        return dataclasses.replace(score(logits, labels), of_images=of_images)


def scores_of_images(config: Config) -> dict[str, Callable[[Tensor, Tensor], float]]:
    """What is also made of logits and labels [N, C], by name in the log.

    Top-1 and top-5 accuracy of pictures in folders, whose classes exclude each other or are ranked by reassessed
    labels; for mile, which gives an image several labels, the F1 of an image's classes at the threshold of its labels.
    """
    functions: dict[str, Callable[[Tensor, Tensor], float]] = {}
    if config.layout == "folder":
        functions |= {f"top{k}": functools.partial(top_accuracy, k=k) for k in (1, 5)}
    if config.method == "mile":
        functions["F1_per_image"] = functools.partial(f1_per_image, threshold=config.mile_threshold)
    return functions
