"""Runs a DALI pipeline over a list of files: may be dropped anywhere, and names the file that it fails on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pumlc.data.pipeline import decoding_pipeline
from pumlc.errors import InputError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline

    PathLike = str | os.PathLike[str]


class ImageReader:
    """Images of rows of a list of files.

    The pipeline is kept from one complete pass to the next. A pass that ends early, by an error or because its
    iterator is dropped, takes its pipeline with it: a new pass never sees leftovers of an old one.

    Args:
        paths: N image files.
        device: where the images come out.
        build: makes a pipeline from a source; one of the functions of ``pumlc.data.pipeline``, options bound.
        decode_options: the options for ``decoding_pipeline``.
    """

    def __init__(
        self,
        paths: Sequence[PathLike],
        device: torch.device,
        build: Callable[[Callable], Pipeline],
        decode_options: dict,
    ) -> None:
        self._paths = paths
        self._device = device
        self._build = build
        self._decode_options = decode_options
        self._idle: tuple[Pipeline, _Source] | None = None

    def read(self, batches: Iterable[tuple[np.ndarray, ...]]) -> Iterator[torch.Tensor]:
        """Yield [B, 3, H, W] images, channels_last, for each of ``batches``: rows [B], then the graph's other inputs.

        Raises:
            InputError: a file is missing, unreadable or not an image; it is named.
        """
        pipeline, source = self._idle or self._new_pipeline()
        self._idle = None
        source.batches = iter(batches)
        while True:
            stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            try:
                (output,) = pipeline.run(stream)
            except StopIteration:
                break
            except RuntimeError as error:
                self._name_the_culprit(source, error)
                raise
            source.under_way.popleft()
            # [B, H, W, 3] without a copy: DALI's dynamic executor gives the memory away for as long as it is held.
            images = torch.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2)
            # On a GPU a copy costs microseconds and makes it torch's own memory, which knows streams and graphs.
            yield images.clone() if images.is_cuda else images
        pipeline.reset()
        self._idle = pipeline, source

    def _new_pipeline(self) -> tuple[Pipeline, _Source]:
        source = _Source(self._paths)
        return self._build(source), source

    def _name_the_culprit(self, source: _Source, error: RuntimeError) -> None:
        """Raise an InputError if a file that was under way cannot be decoded alone."""
        alone = _Source(self._paths)
        pipeline = decoding_pipeline(alone, **self._decode_options)
        for row in (row for rows in source.under_way for row in rows):
            path = os.fspath(self._paths[row])
            try:
                with open(path, "rb") as file:
                    empty = not file.read(1)
            except OSError as cause:
                raise InputError(f"{path} cannot be read: {cause.strerror}. {_REPAIR}") from cause
            if empty:
                raise InputError(f"{path} is an empty file where an image was expected. {_REPAIR}") from error
            alone.batches = iter([(np.array([row]),)])
            try:
                pipeline.run()
            except RuntimeError:
                raise InputError(f"{path} cannot be decoded as an image: damaged or not an image. {_REPAIR}") from error


_REPAIR = "Replace the file or take it out of the data."


class _Source:
    """What a pipeline calls for its next batch; it remembers which rows are under way."""

    def __init__(self, paths: Sequence[PathLike]) -> None:
        self._paths = paths
        self.batches: Iterator[tuple[np.ndarray, ...]] = iter(())
        self.under_way: deque[np.ndarray] = deque()

    def __call__(self) -> tuple:
        rows, *inputs = next(self.batches)  # its StopIteration is DALI's sign of the end
        self.under_way.append(rows)
        return [np.frombuffer(os.fsencode(self._paths[row]), dtype=np.uint8) for row in rows], *inputs
