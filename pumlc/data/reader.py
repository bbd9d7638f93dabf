"""Runs a DALI pipeline over a list of files: may be dropped anywhere, and names the file that it fails on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pumlc.data.pipeline import image_pipeline, region_pipeline
from pumlc.data.resample import Resampler
from pumlc.errors import InputError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline


class Request(NamedTuple):
    """A batch that is wanted."""

    rows: np.ndarray
    """[B] int64, which of the files."""
    start: np.ndarray
    """[B, 2] float32, top and left edge of the region, as shares of the image's height and width."""
    end: np.ndarray
    """[B, 2] float32, bottom and right edge, likewise."""
    mirror: np.ndarray
    """[B] int32, 1 where the region is mirrored left to right."""


class ImageReader:
    """Turns requests into images: on a GPU all by DALI, on a CPU DALI decodes and ``Resampler`` does the rest.

    The pipeline is kept from one complete pass to the next. A pass that ends early, by an error or because its
    iterator is dropped, takes its pipeline with it: a new pass never sees leftovers of an old one.

    Args:
        paths: N image files.
        batch_size: most images in a request.
        image_size: side of the square images, in pixels.
        device, threads, dtype, prefetch, hw_decoder_load: as for ``pumlc.data.loader.TrainLoader``.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        batch_size: int,
        image_size: int,
        device: torch.device,
        threads: int,
        dtype: torch.dtype,
        prefetch: int,
        hw_decoder_load: float,
    ) -> None:
        self._paths = paths
        self._batch_size = batch_size
        self._prefetch = prefetch
        self._device = device
        self._options = {"device": device, "threads": threads, "hw_decoder_load": hw_decoder_load}
        self._resample = None
        if device.type == "cuda":
            self._build = image_pipeline
            self._options |= {"image_size": image_size, "dtype": dtype}
        else:
            self._build = region_pipeline
            self._resample = Resampler(image_size, dtype, threads)
        self._idle: tuple[Pipeline, _Source] | None = None

    def read(self, requests: Iterable[Request]) -> Iterator[torch.Tensor]:
        """Yield [B, 3, image_size, image_size] images, channels_last, normalised, for each request.

        Raises:
            InputError: a file is missing, unreadable or not an image; it is named.
        """
        pipeline, source = self._idle or self._new_pipeline(self._batch_size, self._prefetch)
        self._idle = None
        source.requests = iter(requests)
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
            if self._resample:
                yield self._resample([torch.from_dlpack(output[number]) for number in range(len(output))])
            else:
                # The copy costs microseconds and makes this torch's own memory, which knows streams and graphs.
                yield torch.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2).clone()
        pipeline.reset()
        self._idle = pipeline, source

    def _new_pipeline(self, batch_size: int, prefetch: int) -> tuple[Pipeline, _Source]:
        source = _Source(self._paths)
        return self._build(source, batch_size=batch_size, prefetch=prefetch, **self._options), source

    def _name_the_culprit(self, source: _Source, error: RuntimeError) -> None:
        """Raise an InputError if one of the images that were under way fails alone, too."""
        pipeline, alone = self._new_pipeline(batch_size=1, prefetch=1)
        for request in source.under_way:
            for number, row in enumerate(request.rows):
                path = os.fspath(self._paths[row])
                try:
                    with open(path, "rb") as file:
                        empty = not file.read(1)
                except OSError as cause:
                    raise InputError(f"{path} cannot be read: {cause.strerror}. {_REPAIR}") from cause
                if empty:
                    raise InputError(f"{path} is an empty file where an image was expected. {_REPAIR}") from error
                alone.requests = iter([Request(*(part[number : number + 1] for part in request))])
                try:
                    pipeline.run()
                except RuntimeError:
                    raise InputError(f"{path} cannot be decoded: it is damaged or not an image. {_REPAIR}") from error


_REPAIR = "Replace the file or take it out of the data."


class _Source:
    """What a pipeline calls for its next batch; it remembers which ones are under way."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self._paths = paths
        self.requests: Iterator[Request] = iter(())
        self.under_way: deque[Request] = deque()

    def __call__(self) -> tuple:
        request = next(self.requests)  # its StopIteration is DALI's sign of the end
        self.under_way.append(request)
        names = [np.frombuffer(os.fsencode(self._paths[row]), dtype=np.uint8) for row in request.rows]
        return names, request.start, request.end, request.mirror
