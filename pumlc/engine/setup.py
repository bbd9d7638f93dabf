"""From the settings to data, model and loaders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pumlc import nn
from pumlc.data import Dataset, Splits, load_splits
from pumlc.data.augmentation import CROPS_512, CROPS_640, Augmentation
from pumlc.data.dropping import keep_proportion, single_positive
from pumlc.data.holding_out import DEFAULT_SHARE, hold_out
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.data.word_vectors import read_word_vectors
from pumlc.engine.config import Config
from pumlc.engine.console import Console
from pumlc.engine.distributed import World, cores
from pumlc.engine.host_memory import keep_freed_memory
from pumlc.engine.pictures import Pictures
from pumlc.engine.schedule import Constant, OneCycle, Schedule, StepDecay
from pumlc.errors import InputError
from pumlc.methods import Method
from pumlc.methods.label_store import LabelStore
from pumlc.methods.large_loss import LargeLoss
from pumlc.methods.losses import ElementwiseLoss
from pumlc.methods.mile import MILe
from pumlc.methods.pu_mlc import PUMLC
from pumlc.methods.role import EPR, ROLE
from pumlc.nn.backbone import BackboneNetwork
from pumlc.nn.classifier import Classifier
from pumlc.nn.pretrained import load_weights
from pumlc.nn.recogniser import WORD_SIZE
from pumlc.ops import LOSS_KINDS

LARGE_LOSS_MODES = {"ll-r": "reject", "ll-ct": "correct", "ll-cp": "correct"}


@dataclass(frozen=True)
class Data:
    splits: Splits
    observed: np.ndarray  # [N, C] int8, what is left of the training labels
    pictures: Pictures  # which images cannot be used
    notes: tuple[str, ...] = ()  # on what is held out

    def summary(self) -> str:
        """What a person at the console should know, a line each."""
        train, labels = self.splits.train, self.splits.train.labels
        sizes = [f"{len(split)} {split.split}" for split in (train, self.splits.val, self.splits.test) if split]
        known, kept = np.count_nonzero(labels), np.count_nonzero(self.observed)
        without = int((~(self.observed == 1).any(0)).sum())
        lines = (
            f"data: {train.name}, {' + '.join(sizes)} images, {train.num_classes} classes",
            f"labels: {kept} of {known} kept ({kept / max(known, 1):.1%}), {(self.observed == 1).sum()} positive"
            + (f"; {without} classes have no positive label" if without else ""),
        )
        splits = (train, self.splits.val, self.splits.test)
        notes = dict.fromkeys(note for split in splits if split for note in split.notes)  # splits may share them
        return "\n".join(filter(None, (*lines, self.pictures.summary(), *notes)))


def load_data(config: Config, world: World) -> Data:
    """Read the annotations, draw the demo set where it is asked for and absent, drop labels, hold images out."""
    if config.layout == "demo":
        from pumlc.data.demo import write_demo

        world.on_main(lambda: write_demo(Path(config.data)))
    splits = load_splits(
        "coco" if config.layout == "demo" else config.layout,
        Path(config.data),
        include_unannotated=config.include_unannotated,
        difficult=config.difficult,
    )
    if config.num_classes not in (None, splits.train.num_classes):
        raise InputError(
            f"--num-classes is {config.num_classes}, but {splits.train.name} in {config.data} has "
            f"{splits.train.num_classes} classes. Leave the flag away, or give the data set that it was meant for."
        )
    labels = splits.train.labels
    if config.single_positive:
        observed = single_positive(labels, seed=config.seed)
    else:
        observed = keep_proportion(labels, config.prob) if config.prob < 1 else labels
    splits, left_out = _without_useless_val(splits)
    splits, kept, notes = _hold_out(config, splits)  # after the masks, which are drawn over all images
    labels, observed = labels[kept], observed[kept]
    if not (observed == 1).any():
        raise InputError(
            f"No positive label is left of {splits.train.name} (train): of {int((labels == 1).sum())}, none is kept "
            f"at --prob {config.prob:g}."
        )
    return Data(splits, observed, Pictures(config, splits, world, Console(world.is_main).say), (*left_out, *notes))


def _without_useless_val(splits: Splits) -> tuple[Splits, tuple[str, ...]]:
    """The splits without a val split on which nothing can be chosen, and what a person should know about that."""
    val = splits.val
    if val is None or val.can_be_scored:
        return splits, ()
    note = (
        f"the val split of {len(val)} images counts as none: no class has both a positive and a known negative label "
        "there, so that nothing can be chosen on it"
    )
    return replace(splits, val=None), (note,)


def _hold_out(config: Config, splits: Splits) -> tuple[Splits, np.ndarray, tuple[str, ...]]:
    """The splits, the rows of the train split that stay in it, and what a person should know about that."""
    unknown_is_negative = config.layout == "folder"
    everything = np.arange(len(splits.train))
    if config.hold_out:
        return *hold_out(splits, config.hold_out, config.seed, unknown_is_negative=unknown_is_negative), ()
    if splits.val is not None:
        return splits, everything, ()
    none = (
        "no val split: the weights of the last step are kept, nothing is chosen on any other split, and there are no "
        "thresholds and no calibration"
    )
    if config.hold_out is not None:
        return splits, everything, (f"{none} (--hold-out {DEFAULT_SHARE:g} would set images aside for that)",)
    try:
        parts = hold_out(splits, DEFAULT_SHARE, config.seed, unknown_is_negative=unknown_is_negative)
    except InputError as error:
        return splits, everything, (f"{none}; no images are held out: {error}",)
    note = (
        f"the data has no val split, so {len(parts[0].val)} training images are held out: weights, thresholds and "
        "calibration are chosen on them (--hold-out 0 trains on all images and chooses nothing)"
    )
    return *parts, (note,)


def use_threads(threads: int | None, world: World) -> int:
    """Give this process its threads, by default its share of the cores; returns how many shall decode pictures.

    On a CPU the network needs them all, and decoding is a small part of the work.
    """
    threads = threads or max(1, cores() // world.local_size)
    torch.set_num_threads(threads)
    if world.device.type == "cpu":
        keep_freed_memory()
    return threads if world.device.type == "cuda" else max(1, threads // 2)


class Built(NamedTuple):
    model: BackboneNetwork
    warning: str | None  # where its weights are not those asked for
    notes: tuple[str, ...]  # what a person should know about it, a line each


def build_model(config: Config, data: Data, world: World) -> Built:
    """The model on its device.

    Only the first process reads weights and word vectors: the others get them when the model is wrapped. A run that is
    resumed reads neither: its checkpoint holds them. For mile, where one label of C is given, the bias of the
    head starts at -log C as published, unless the weights hold one.
    """
    torch.manual_seed(config.seed)
    train = data.splits.train
    common = {
        "image_size": config.image_size,
        "train_all": config.train_all,
        "local_global": config.local_global,
    }
    notes = ()
    if config.head == "linear":
        model = Classifier(config.backbone, train.num_classes, boost=config.boost, **common)
    else:
        words, note = _words(config, train.class_names, world)
        adjacency = nn.co_occurrence(torch.from_numpy(data.observed))
        model = nn.PUMLC(config.backbone, train.num_classes, words=words, adjacency=adjacency, **common)
        notes = (note,)
    if config.method == "mile":
        torch.nn.init.constant_(model.head.bias, -math.log(train.num_classes))
    weights = "none" if config.resume else config.weights
    warning = world.on_main(lambda: load_weights(model, weights, class_names=train.class_names))
    return Built(model.to(world.device, memory_format=torch.channels_last), warning, notes)


def _words(config: Config, class_names: tuple[str, ...], world: World) -> tuple[torch.Tensor | None, str]:
    """Word vectors [C, 300] and a note on them; None where they are learned."""
    if config.word_vectors is None:
        return None, f"words: no --word-vectors, so {WORD_SIZE} numbers per class are learned instead"
    if config.resume is None:
        found = world.on_main(lambda: read_word_vectors(config.word_vectors, class_names, size=WORD_SIZE))
        if found is not None:
            return torch.from_numpy(found.vectors), found.summary()
    return torch.zeros(len(class_names), WORD_SIZE), f"words: those of {config.word_vectors}"


def build_method(config: Config, labels: torch.Tensor, world: World) -> Method:
    """How a batch becomes a loss.

    Args:
        labels: [N, C] int8 on the device, of the loader, which a method may edit.
    """
    method = _method(config, labels, world)
    if config.cuda_graph and not method.is_repeatable:
        raise InputError(
            f"--cuda-graph repeats one step, and --method {config.method} does not do the same in each. Leave the "
            "flag away."
        )
    return method


def _method(config: Config, labels: torch.Tensor, world: World) -> Method:
    if config.method in LOSS_KINDS:
        return ElementwiseLoss(config.method, config.total_epochs, world.size)
    if config.method in LARGE_LOSS_MODES:
        store = LabelStore(labels, world.group) if config.method == "ll-cp" else None
        return LargeLoss(LARGE_LOSS_MODES[config.method], config.delta_rel, world.group, store)
    if config.method == "mile":
        return MILe(
            config.mile_k1,
            config.mile_k2,
            config.mile_threshold,
            union=config.mile_union,
            sample=config.mile_sample,
            group=world.group,
        )
    if config.method == "epr":
        return EPR(config.expected_positives, world.group)
    if config.method == "role":
        return ROLE(labels, config.expected_positives, config.seed, world.group)
    return PUMLC(
        config.alpha,
        config.gamma,
        config.min_temperature,
        world.group if config.sync_statistics else None,
        mixup=config.mixup,
        mixup_beta=config.mixup_beta,
        detach_target=config.detach_target,
    )


def build_schedule(config: Config, steps_per_epoch: int) -> Schedule:
    if config.schedule == "constant":
        return Constant(config.lr)
    total_steps = config.total_epochs * steps_per_epoch
    if config.schedule == "step-decay":
        return StepDecay(config.lr, total_steps)
    return OneCycle(config.lr, total_steps, config.pct_start)


def train_loader(config: Config, data: Data, world: World, threads: int, dtype: torch.dtype) -> TrainLoader:
    return TrainLoader(
        data.splits.train.paths,
        data.observed,
        batch_size=config.batch_size,
        augmentation=Augmentation(
            image_size=config.image_size,
            scale=config.scale_size,
            crops=CROPS_640 if config.scale_size == 640 else CROPS_512,
        ),
        device=world.device,
        rank=world.rank,
        world_size=world.size,
        seed=config.seed,
        threads=threads,
        dtype=dtype,
        max_megapixels=config.max_megapixels,
        quarantine=data.pictures.quarantines["train"],
    )


def evaluation_loader(
    config: Config, data: Data, split: Dataset, world: World, threads: int, dtype: torch.dtype
) -> EvaluationLoader:
    return EvaluationLoader(
        split.paths,
        split.labels,
        batch_size=config.batch_size,
        image_size=config.image_size,
        device=world.device,
        rank=world.rank,
        world_size=world.size,
        threads=threads,
        dtype=dtype,
        max_megapixels=config.max_megapixels,
        quarantine=data.pictures.quarantines[split.split],
    )
