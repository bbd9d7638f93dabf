"""From picture files to calibrated probabilities, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.data.picture_stream import Pictures, PictureStream
from pumlc.engine.distributed import World
from pumlc.engine.precision import Precision, choose_precision
from pumlc.engine.recogniser import Recogniser
from pumlc.engine.setup import use_threads
from pumlc.errors import InputError

BATCH_SIZE = 32


class Options(NamedTuple):
    """How to compute."""

    device: torch.device
    precision: str = "auto"  # as of training
    batch_size: int = BATCH_SIZE
    threads: int | None = None  # None: every core available to this process
    max_megapixels: float = MAX_MEGAPIXELS


class Predicted(NamedTuple):
    """What is known of neighbouring pictures."""

    rows: range  # which of the pictures
    probabilities: dict[int, np.ndarray]  # [C] float64 by row
    unusable: dict[int, str]  # reason by row, of all others


def predict_batches(
    recogniser: Recogniser, paths: Sequence[str | os.PathLike[str]], options: Options
) -> Iterator[Predicted]:
    """Probabilities of N pictures, prepared as in evaluation, in their order and as soon as they are known.

    No more than a few batches are held at a time. On a GPU a batch is handed out while the next one is computed.
    """
    world = World(options.device)
    precision = choose_precision(options.precision, options.device)
    stream = PictureStream(
        paths,
        batch_size=max(1, min(options.batch_size, len(paths))),
        image_size=recogniser.model.image_size,
        device=options.device,
        threads=use_threads(options.threads, world),
        dtype=precision.images,
        max_megapixels=options.max_megapixels,
    )
    recogniser.model.to(options.device, memory_format=torch.channels_last)
    recogniser.calibration.to(options.device)
    waiting = None
    for pictures in stream:
        computed = _Computed(recogniser, pictures, precision)
        if waiting is not None:
            yield waiting.result()
        waiting = computed
    if waiting is not None:
        yield waiting.result()


def predict(
    recogniser: Recogniser, images: Sequence[str | os.PathLike[str]], options: Options, *, named: int = 3
) -> np.ndarray:
    """Probabilities [N, C] float64 of N pictures.

    Args:
        named: how many unusable pictures a message names.

    Raises:
        InputError: pictures are missing or cannot be decoded; the message names them.
    """
    probabilities: dict[int, np.ndarray] = {}
    unusable: dict[int, str] = {}
    for batch in predict_batches(recogniser, images, options):
        probabilities |= batch.probabilities
        unusable |= batch.unusable
    if unusable:
        listed = [f"{os.fspath(images[row])} {reason}" for row, reason in list(unusable.items())[:named]]
        raise InputError(f"{len(unusable)} of {len(images)} pictures cannot be used: {'; '.join(listed)}.")
    return np.stack([probabilities[row] for row in range(len(images))])


class _Computed:
    """The probabilities of a batch, which on a GPU are still on their way."""

    def __init__(self, recogniser: Recogniser, pictures: Pictures, precision: Precision) -> None:
        self._pictures = pictures
        self._done = None
        self._of_good = None
        if pictures.images is not None:
            probabilities = _forward(recogniser, pictures.images, precision)
            self._of_good = probabilities.to("cpu", non_blocking=True)  # into pinned memory
            if probabilities.is_cuda:
                self._done = torch.cuda.Event()
                self._done.record()

    def result(self) -> Predicted:
        if self._done is not None:
            self._done.synchronize()
        of_good = [] if self._of_good is None else self._of_good.numpy()
        rows, good, _, unusable = self._pictures
        return Predicted(rows, dict(zip(good, of_good, strict=True)), unusable)


@torch.inference_mode()
def _forward(recogniser: Recogniser, images: Tensor, precision: Precision) -> Tensor:
    """[B, C] float64."""
    with precision.autocast():
        logits = recogniser.model(images)
    return recogniser.calibration.probability(logits.float())
