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

GOOD = 31
"""Pictures beside each mutated file: the decoder must not crash on those that it is at when that one fails."""


def read_all(folder: Path, numbers: Iterable[int]) -> dict[str, int]:
    """Write the mutated files of these seeds and read them all; how many gave a picture and how many a reason.

    First whole, to evaluate on, each in a batch of good ones; and then, those that were not set aside, two different
    regions of each, to train on.
    """
    files, good = seeds(), folder / "good.jpg"
    photo(0, 96, 72).save(good)
    mutants, crowd = [], []
    for number in numbers:
        mutants.append(folder / f"{number:07}.jpg")
        mutants[-1].write_bytes(mutated(files, number))
        crowd += [good] * GOOD
        crowd.insert(len(crowd) - number % (GOOD + 1), mutants[-1])
    quarantine = Quarantine(crowd, folder, "fuzzed", max_share=1.0)
    loader = EvaluationLoader(
        crowd,
        np.zeros((len(crowd), 1), np.int8),
        batch_size=GOOD + 1,
        image_size=32,
        device=torch.device("cpu"),
        threads=2,
        quarantine=quarantine,
    )
    seen = 0
    for batch in loader:
        assert batch.images.isfinite().all()
        seen += len(batch.index)
    assert seen == len(crowd), f"{len(crowd) - seen} of {len(crowd)} files were not read"
    assert all(quarantine.reasons.values()), "a file was set aside without a reason"
    reasons = {str(crowd[row]): reason for row, reason in quarantine.reasons.items()}
    assert str(good) not in reasons
    copies, bad = len(loader._reader._copied), len(reasons)

    paths = [*mutants, good]  # of a split without any usable picture, nothing can be read
    quarantine = Quarantine(paths, folder, "fuzzed", known=reasons, max_share=1.0)
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
        "decoded": len(mutants) - bad - copies,
        "decoded by Pillow alone": copies,
        "set aside": bad,
        "set aside for a region alone": len(quarantine.reasons) - bad,
    }
