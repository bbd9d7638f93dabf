"""Mutated files through the loaders, whole and by regions, as a run reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from pumlc.data.augmentation import Augmentation
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.data.quarantine import Quarantine
from tests.data.photos import photo
from tests.fuzz.mutations import mutated, seeds


def read_all(folder: Path, numbers: Iterable[int]) -> dict[str, int]:
    """Write the mutated files of these seeds and read them all; how many gave a picture and how many a reason.

    First whole, to evaluate on, and then, those that were not set aside, two different regions of each, to train on.
    """
    files, paths = seeds(), []
    for number in numbers:
        paths.append(folder / f"{number:07}.jpg")
        paths[-1].write_bytes(mutated(files, number))
    paths.append(folder / "whole.jpg")  # of a split without any usable picture, nothing can be read
    photo(0, 64, 48).save(paths[-1])
    quarantine = Quarantine(paths, folder, "fuzzed", max_share=1.0)
    loader = EvaluationLoader(
        paths,
        np.zeros((len(paths), 1), np.int8),
        batch_size=25,
        image_size=32,
        device=torch.device("cpu"),
        threads=1,
        quarantine=quarantine,
    )
    seen = 0
    for batch in loader:
        assert batch.images.isfinite().all()
        seen += len(batch.index)
    assert seen == len(paths), f"{len(paths) - seen} of {len(paths)} files were not read"
    assert all(quarantine.reasons.values()), "a file was set aside without a reason"
    copies = len(loader._reader._copied)
    bad = len(quarantine.reasons)
    training = TrainLoader(
        paths,
        np.zeros((len(paths), 1), np.int8),
        batch_size=1,
        augmentation=Augmentation(image_size=32),
        device=torch.device("cpu"),
        threads=1,
        quarantine=quarantine,
    )
    for epoch in range(2):
        regions = 0
        for batch in training.epoch(epoch):
            assert batch.images.isfinite().all()
            regions += 1
        assert regions == len(paths), f"{len(paths) - regions} of {len(paths)} files gave no region"
    return {
        "decoded": len(paths) - 1 - bad - copies,
        "decoded by Pillow alone": copies,
        "set aside": bad,
        "set aside for a region alone": len(quarantine.reasons) - bad,
    }
