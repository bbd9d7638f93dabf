"""Batches of images and labels, for training and for evaluation, sharded over ranks.

Labels stay on the device and are gathered by row there; only file names go through DALI.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pumlc.data.augmentation import Augmentation, EpochPlan, plan_epoch, whole_images
from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.data.quarantine import Quarantine, stand_ins
from pumlc.data.reader import ImageReader, InterruptedPassError, Request
from pumlc.errors import InputError


@dataclass(frozen=True)
class Batch:
    """B images with their labels. Every batch has its own memory and stays valid for as long as it is held."""

    images: torch.Tensor
    """[B, 3, H, W] float32 or float16 on the device, channels_last strides, normalised by ImageNet's mean and std."""
    labels: torch.Tensor
    """[B, C] int8 on the device: 1 positive, 0 unknown, -1 known negative."""
    index: torch.Tensor
    """[B] int64 on the device: each image's row in the label matrix."""


class _Loader:
    """What both loaders share: the checked arguments, the labels on the device, the reader."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        labels: np.ndarray | torch.Tensor,
        *,
        batch_size: int,
        image_size: int,
        device: torch.device,
        rank: int,
        world_size: int,
        threads: int | None,
        dtype: torch.dtype,
        prefetch: int,
        hw_decoder_load: float,
        max_megapixels: float,
        quarantine: Quarantine | None,
    ) -> None:
        if labels.ndim != 2 or len(labels) != len(paths):
            raise InputError(f"labels have the shape {tuple(labels.shape)}; {len(paths)} images need one row each.")
        if labels.dtype not in (np.int8, torch.int8):
            raise InputError(f"labels are {labels.dtype}; they must be int8: 1 positive, 0 unknown, -1 known negative.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
        if not 0 <= rank < world_size:
            raise InputError(f"rank is {rank} of {world_size}; it must be at least 0 and below world_size.")
        if dtype not in (torch.float32, torch.float16):
            raise InputError(f"dtype is {dtype}; images come as torch.float32 or torch.float16.")
        if prefetch < 1:
            raise InputError(f"prefetch is {prefetch}; it must be at least 1 batch.")
        threads = threads if threads is not None else len(os.sched_getaffinity(0))
        if threads < 1:
            raise InputError(f"threads is {threads}; it must be at least 1, or None for every available core.")
        device = torch.device(device)
        self.paths = paths
        self.quarantine = quarantine
        self.labels = torch.tensor(labels) if isinstance(labels, np.ndarray) else labels.clone()
        self.labels = self.labels.to(device)
        self.batch_size = batch_size
        self.device = device
        self.rank = rank
        self.world_size = world_size
        self._reader = ImageReader(
            paths,
            batch_size=batch_size,
            image_size=image_size,
            device=device,
            threads=threads,
            dtype=dtype,
            prefetch=prefetch,
            hw_decoder_load=hw_decoder_load,
            max_megapixels=max_megapixels,
        )

    def _batches(self, plan: EpochPlan, rows: Sequence[np.ndarray], *, labels_follow: bool) -> Iterator[Batch]:
        """One batch for each array of rows, regions and flips as planned.

        Args:
            labels_follow: what stands in for an unusable image brings its own labels and index.
        """
        done = 0
        while done < len(rows):
            left = pictures = rows[done:]
            if self.bad.any():
                seen = stand_ins(plan.order, self.bad)
                pictures = [seen[batch] for batch in left]
            # All indices go to the device at once, before the first step: no step waits for a copy.
            indices = torch.from_numpy(np.concatenate(pictures if labels_follow else left)).to(self.device)
            by_batch = indices.split([len(batch) for batch in left])
            requests = (Request(batch, plan.start[batch], plan.end[batch], plan.mirror[batch]) for batch in pictures)
            try:
                for index, images in zip(by_batch, self._reader.read(requests), strict=True):
                    yield Batch(images, self.labels[index], index)
                    done += 1
            except InterruptedPassError as error:
                self._set_aside(error.reasons)

    @property
    def bad(self) -> np.ndarray:
        """[N] bool, True for the images that are known to be unusable."""
        return np.zeros(len(self.paths), dtype=bool) if self.quarantine is None else self.quarantine.bad

    def _set_aside(self, reasons: Mapping[int, str]) -> None:
        if self.quarantine is not None:
            self.quarantine.add(reasons)
            return
        for row, reason in reasons.items():
            raise InputError(f"{os.fspath(self.paths[row])} {reason}. Replace the file or take it out of the data.")


class TrainLoader(_Loader):
    """Augmented batches in a random order, each image at most once per epoch.

    What an epoch holds is a pure function of (seed, epoch): rank r of k takes its share of the same global batch,
    whose images and augmentation depend on the product of ``batch_size`` and ``world_size`` alone. The place of an
    image that cannot be used is taken by the next usable one of the epoch's order, with its own labels and
    augmentation; all others keep theirs.

    Args:
        paths: N image files. EXIF orientation is honoured; grey and CMYK images come out as RGB.
        labels: [N, C] int8. Copied; the copy is ``self.labels`` and may be edited during training.
        batch_size: images per rank and step.
        augmentation: the recipe.
        device: where batches come out. With a GPU, JPEGs are decoded on it.
        rank, world_size: this process's share.
        seed: 0 to 2**64 - 1.
        threads: CPU threads that read and decode; None: every core available to this process.
        dtype: torch.float32 or torch.float16.
        prefetch: batches in the pipeline at a time, the one handed out included.
        hw_decoder_load: share of JPEGs for the GPU's JPEG engine, where it has one; 0 for bit-reproducible runs.
        max_megapixels: a file that claims more cannot be used.
        quarantine: which of ``paths`` cannot be used, to be filled further; None: the first one is an error.

    Raises:
        InputError: an argument does not fit, or the global batch is larger than the data. While iterating: a file is
            missing or damaged and there is no ``quarantine``, or it has too many; they are named.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        labels: np.ndarray | torch.Tensor,
        *,
        batch_size: int,
        augmentation: Augmentation,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
        prefetch: int = 2,
        hw_decoder_load: float = 0.65,
        max_megapixels: float = MAX_MEGAPIXELS,
        quarantine: Quarantine | None = None,
    ) -> None:
        super().__init__(
            paths,
            labels,
            batch_size=batch_size,
            image_size=augmentation.image_size,
            device=device,
            rank=rank,
            world_size=world_size,
            threads=threads,
            dtype=dtype,
            prefetch=prefetch,
            hw_decoder_load=hw_decoder_load,
            max_megapixels=max_megapixels,
            quarantine=quarantine,
        )
        if len(self) == 0:
            raise InputError(
                f"A batch of {batch_size} on {world_size} rank(s) is larger than the training data: {len(paths)} "
                f"images. Choose a batch_size that times {world_size} is at most {len(paths)}."
            )
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        """Steps per epoch, the same on every rank; the images that do not fill the last step are left out."""
        return len(self.paths) // (self.batch_size * self.world_size)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from ``start_step`` on, bit for bit those of an epoch that was never interrupted."""
        if not 0 <= start_step <= len(self):
            raise InputError(f"start_step is {start_step}; an epoch has {len(self)} steps.")
        plan = plan_epoch(self.augmentation, len(self.paths), seed=self.seed, epoch=epoch)
        steps = plan.order[: len(self) * self.world_size * self.batch_size]
        share = steps.reshape(len(self), self.world_size, self.batch_size)[start_step:, self.rank]
        return self._batches(plan, share, labels_follow=True)


class EvaluationLoader(_Loader):
    """Every image once over all ranks, whole, resized to a square; the last batch of a rank may be short.

    The row of an image that cannot be used comes with the picture of the next usable one: what is made of the rows that
    ``quarantine`` names, on any rank, has to be left out.

    Rank r of k has the rows r, r + k, r + 2k, ...: shares may differ by one image, so ranks may differ by one batch.
    Arguments and errors as for ``TrainLoader``; ``image_size`` is the side of the square in pixels.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        labels: np.ndarray | torch.Tensor,
        *,
        batch_size: int,
        image_size: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
        prefetch: int = 2,
        hw_decoder_load: float = 0.65,
        max_megapixels: float = MAX_MEGAPIXELS,
        quarantine: Quarantine | None = None,
    ) -> None:
        if image_size < 1:
            raise InputError(f"image_size is {image_size}; it must be at least 1 pixel.")
        super().__init__(
            paths,
            labels,
            batch_size=batch_size,
            image_size=image_size,
            device=device,
            rank=rank,
            world_size=world_size,
            threads=threads,
            dtype=dtype,
            prefetch=prefetch,
            hw_decoder_load=hw_decoder_load,
            max_megapixels=max_megapixels,
            quarantine=quarantine,
        )
        self._plan = whole_images(len(paths))
        share = self._plan.order[rank::world_size]
        self._rows = [share[first : first + batch_size] for first in range(0, len(share), batch_size)]

    def __len__(self) -> int:
        """Batches on this rank."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Batch]:
        """A new pass over this rank's images."""
        return self._batches(self._plan, self._rows, labels_follow=False)
