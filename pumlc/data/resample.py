"""Regions to network input on the CPU: DALI's CPU resize takes ten times as long as PyTorch's for uint8 images."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pumlc.data.pipeline import MEAN, STD


class Resampler:
    """Resizes and normalises a batch, one image per thread.

    Args:
        image_size: side of the square images, in pixels.
        dtype: torch.float32 or torch.float16.
        threads: how many images at a time.
    """

    def __init__(self, image_size: int, dtype: torch.dtype, threads: int) -> None:
        self._size = image_size
        self._dtype = dtype
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pumlc-resample")
        # pixel * scale + shift, for a whole row [W * 3]: long rows are what NumPy is fast at.
        self._scale = np.tile(1 / (255 * np.array(STD)), image_size).astype(np.float32)
        self._shift = np.tile(-np.array(MEAN) / np.array(STD), image_size).astype(np.float32)

    def __call__(self, regions: Sequence[torch.Tensor]) -> torch.Tensor:
        """Regions [h, w, 3] uint8, each of its own size, to images [B, 3, image_size, image_size], channels_last."""
        # Fresh memory from NumPy, which asks for huge pages: faulting in small ones costs more than the resize.
        rows = np.empty((len(regions), self._size, self._size * 3), dtype=np.float32)
        list(self._pool.map(self._write, regions, rows))
        images = torch.from_numpy(rows).unflatten(2, (self._size, 3))
        return images.permute(0, 3, 1, 2).to(self._dtype)

    def _write(self, region: torch.Tensor, rows: np.ndarray) -> None:
        # Antialiased bicubic, within rounding of Pillow's. It runs in this thread alone, and NumPy does the rest:
        # PyTorch's element-wise operations would start a team of OpenMP threads in each of the pool's threads.
        # The new axis comes first: only then do the strides say channels_last, and the result has them too.
        image = torch.nn.functional.interpolate(
            region[None].permute(0, 3, 1, 2), (self._size, self._size), mode="bicubic", antialias=True
        )
        pixels = image.permute(0, 2, 3, 1).numpy().reshape(rows.shape)
        np.multiply(pixels, self._scale, out=rows)
        np.add(rows, self._shift, out=rows)
