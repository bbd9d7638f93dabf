"""Pictures of which nothing is known: every one once, whole, in order, with the reason of each that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from pumlc.data.augmentation import whole_images
from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.data.reader import ImageReader, InterruptedPassError, Request

WINDOW = 1 << 16
"""Files that one reader has: what it keeps of each, copies of odd ones among it, is gone with it."""


class Pictures(NamedTuple):
    """Neighbours in the list of files."""

    rows: range
    """Which of the files these are."""
    good: list[int]
    """Those of ``rows`` that ``images`` shows, in this order."""
    images: torch.Tensor | None
    """[B, 3, H, W] as of the loaders, B the length of ``good``; None where it is 0."""
    unusable: dict[int, str]
    """Reason by row of the others, in words that follow the name of the file."""


class PictureStream:
    """Batches of pictures without labels, prepared as :class:`~pumlc.data.loader.EvaluationLoader` does.

    A picture that cannot be used leaves its batch; the others stay where they are. Memory does not grow with the number
    of files.

    Args:
        paths: N files.
        batch_size: most pictures in a batch.
        image_size: side of the square images, in pixels.
        device, threads, dtype, prefetch, hw_decoder_load, max_megapixels: as for
            :class:`~pumlc.data.loader.TrainLoader`.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        batch_size: int,
        image_size: int,
        device: torch.device,
        threads: int,
        dtype: torch.dtype = torch.float32,
        prefetch: int = 2,
        hw_decoder_load: float = 0.65,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self._paths = paths
        self._batch_size = batch_size
        self._options = {
            "batch_size": batch_size,
            "image_size": image_size,
            "device": device,
            "threads": threads,
            "dtype": dtype,
            "prefetch": prefetch,
            "hw_decoder_load": hw_decoder_load,
            "max_megapixels": max_megapixels,
        }

    def __len__(self) -> int:
        """Pictures."""
        return len(self._paths)

    def __iter__(self) -> Iterator[Pictures]:
        """A new pass."""
        for first in range(0, len(self._paths), WINDOW):
            for of_window in self._window(self._paths[first : first + WINDOW]):
                rows, good, images, unusable = of_window
                yield Pictures(
                    range(first + rows.start, first + rows.stop),
                    [first + row for row in good],
                    images,
                    {first + row: reason for row, reason in unusable.items()},
                )

    def _window(self, paths: Sequence[str | os.PathLike[str]]) -> Iterator[Pictures]:
        reader = ImageReader(paths, **self._options)
        plan = whole_images(len(paths))
        batches = [
            range(start, min(start + self._batch_size, len(paths))) for start in range(0, len(paths), self._batch_size)
        ]
        unusable: dict[int, str] = {}
        done = 0

        def good_of(batch: range) -> list[int]:
            return [row for row in batch if row not in unusable]

        def requests() -> Iterator[Request]:
            for batch in batches[done:]:
                if good := good_of(batch):
                    yield Request(np.array(good), plan.start[good], plan.end[good], plan.mirror[good])

        while done < len(batches):
            images = reader.read(requests())
            try:
                for batch in batches[done:]:
                    good = good_of(batch)
                    shown = next(images) if good else None
                    yield Pictures(batch, good, shown, {row: unusable[row] for row in batch if row in unusable})
                    done += 1
            except InterruptedPassError as error:
                unusable |= error.reasons
