"""Runs a DALI pipeline over a list of files: may be dropped anywhere, and tells which files it fails on.

An error of DALI's ends a pipeline and does not say whose it is. The files of the batches under way are then tried one
by one. A JPEG that turns out whole although it does not end with its end is known as such from then on; what Pillow can
decode all the same is read from a copy without loss; the rest has no pixels.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from pumlc.data.copies import Copies
from pumlc.data.jpeg import ends_early
from pumlc.data.picture import UnusablePictureError, read_picture
from pumlc.data.pipeline import image_pipeline, region_pipeline
from pumlc.data.resample import Resampler
from pumlc.errors import InputError

if TYPE_CHECKING:
    from nvidia.dali import Pipeline


PARSED_ALONE = 4
"""So many files per thread, the caller counted as one, DALI's decoder parses one after the other. More of them it
shares out among its threads, and a file that cannot be parsed may then crash the process: where it is the caller that
meets it, it leaves the others at work on what is gone (seen in DALI 2.4)."""


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

    def parts(self, most: int) -> list[Request]:
        """The same in requests of at most so many images, as even as can be."""
        count = -(-len(self.rows) // most)
        return [Request(*part) for part in zip(*(np.array_split(field, count) for field in self), strict=True)]


class InterruptedPassError(Exception):
    """A pass ended at a file that cannot be decoded as it is; ``reasons`` by row are those of the unusable ones.

    Where there are none, the files were put right, or the error may pass: the same requests will do.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} files cannot be used")
        self.reasons = reasons


class ImageReader:
    """Turns requests into images: on a GPU all by DALI, on a CPU DALI decodes and ``Resampler`` does the rest.

    The pipeline is kept from one complete pass to the next. A pass that ends early, by an error or because its
    iterator is dropped, takes its pipeline with it: a new pass never sees leftovers of an old one.

    Args:
        paths: N image files.
        batch_size: most images in a request.
        image_size: side of the square images, in pixels.
        max_megapixels: a file that claims more is unusable.
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
        max_megapixels: float,
    ) -> None:
        self._originals = [os.fspath(path) for path in paths]
        self._paths = self._originals.copy()
        self._at_once = min(batch_size, PARSED_ALONE * (threads + 1))
        self._prefetch = prefetch * -(-batch_size // self._at_once)
        self._device = device
        self._max_megapixels = max_megapixels
        self._options = {
            "device": device,
            "threads": threads,
            "hw_decoder_load": hw_decoder_load,
            "max_megapixels": max_megapixels,
        }
        self._resample = None
        if device.type == "cuda":
            self._build = image_pipeline
            self._options |= {"image_size": image_size, "dtype": dtype}
        else:
            self._build = region_pipeline
            self._resample = Resampler(image_size, dtype, threads)
        self._idle: tuple[Pipeline, _Source] | None = None
        self._copies = Copies()
        self._copied: set[int] = set()
        self._is_whole = np.zeros(len(paths), dtype=bool)
        self._is_retry = False

    def read(self, requests: Iterable[Request]) -> Iterator[torch.Tensor]:
        """Yield [B, 3, image_size, image_size] images, channels_last, normalised, for each request.

        Raises:
            InterruptedPassError: a file cannot be decoded. The requests before it were yielded.
            InputError: a batch failed twice, and each of its files can be decoded alone.
        """
        pipeline, source = self._idle or self._new_pipeline(self._at_once, self._prefetch)
        self._idle = None
        source.requests = (part for request in requests for part in self._parts(request))
        images: list[torch.Tensor] = []
        while True:
            stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
            try:
                (output,) = pipeline.run(stream)
            except StopIteration:
                break
            except RuntimeError as error:
                under_way = [part.request for part in source.under_way]
                reasons = self._try_each(under_way)
                if reasons is None and self._is_retry:
                    raise InputError(_of_the_batch(under_way[0], self._paths, error)) from error
                self._is_retry = reasons is None
                raise InterruptedPassError(reasons or {}) from error
            self._is_retry = False
            if self._resample:
                images += [torch.from_dlpack(output[number]) for number in range(len(output))]
            else:
                images.append(torch.from_dlpack(output.as_tensor()))
            if not source.under_way.popleft().is_last:
                continue
            if self._resample:
                yield self._resample(images)
            else:
                # The copy costs microseconds and makes this torch's own memory, which knows streams and graphs.
                yield torch.cat(images).permute(0, 3, 1, 2)
            images = []
        pipeline.reset()
        self._idle = pipeline, source

    def _parts(self, request: Request) -> Iterator[_Part]:
        parts = request.parts(self._at_once)
        return (_Part(part, number == len(parts)) for number, part in enumerate(parts, start=1))

    def _new_pipeline(self, batch_size: int, prefetch: int) -> tuple[Pipeline, _Source]:
        source = _Source(self._paths, self._is_whole)
        return self._build(source, batch_size=batch_size, prefetch=prefetch, **self._options), source

    def _try_each(self, requests: Iterable[Request]) -> dict[int, str] | None:
        """Reason by row of the unusable files, after others were put right; None: there was nothing to do."""
        reasons: dict[int, str] = {}
        all_fine = True
        alone = None
        for request in requests:
            for number, row in enumerate(request.rows.tolist()):
                alone = alone or self._new_pipeline(batch_size=1, prefetch=1)
                pipeline, source = alone
                source.requests = iter([_Part(Request(*(field[number : number + 1] for field in request)), True)])
                try:
                    pipeline.run()
                    pipeline.reset()
                except RuntimeError:
                    alone, all_fine = None, False  # an error ends a pipeline
                    try:
                        self._put_right(row)
                    except UnusablePictureError as error:
                        reasons[row] = error.reason
        return None if all_fine else reasons

    def _put_right(self, row: int) -> None:
        """Know the file as a whole one that does not end with its end, or put a copy without loss in its place.

        Raises:
            UnusablePictureError: neither can be done.
        """
        if row in self._copied and os.path.exists(self._paths[row]):  # temporary folders are cleaned, now and then
            raise UnusablePictureError("cannot be decoded")
        original = self._originals[row]
        if not self._is_whole[row] and ends_early(original):
            self._is_whole[row] = True
            return
        self._paths[row] = str(self._copies.keep(str(row), read_picture(original, self._max_megapixels)))
        self._copied.add(row)


def _of_the_batch(request: Request, paths: Sequence[str], error: RuntimeError) -> str:
    """What to say of a batch that fails although its files do not."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        f"The batch of {len(request.rows)} pictures that begins with {paths[request.rows[0]]} cannot be decoded, twice "
        f"in a row, though each of them can alone: {said[0] if said else type(error).__name__}. If memory is short, "
        "use a smaller --batch-size; what was saved before is untouched."
    )


class _Part(NamedTuple):
    """What the pipeline decodes at once of a batch."""

    request: Request
    is_last: bool


class _Source:
    """What a pipeline calls for the next part of a batch; it remembers which ones are under way."""

    def __init__(self, paths: Sequence[str], is_whole: np.ndarray) -> None:
        self._paths, self._is_whole = paths, is_whole
        self.requests: Iterator[_Part] = iter(())
        self.under_way: deque[_Part] = deque()

    def __call__(self) -> tuple:
        part = next(self.requests)  # its StopIteration is DALI's sign of the end
        self.under_way.append(part)
        request = part.request
        names = [np.frombuffer(os.fsencode(self._paths[row]), dtype=np.uint8) for row in request.rows]
        return names, self._is_whole[request.rows], request.start, request.end, request.mirror
