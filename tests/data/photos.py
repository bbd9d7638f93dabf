"""Small JPEG files with known content, and Pillow as the reference for what the input should make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pumlc.data.pipeline import MEAN, STD

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
on_each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])

CLOSE = 1.0
"""Mean absolute difference to Pillow, in grey levels of 255, that counts as the same picture. On a CPU 0.2 to 0.5 is
seen; half a pixel of shift, a missed flip or no antialiasing give 3 and more on these photos."""


def photo(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture with the spectrum of a photograph: 1/f noise, different for each seed, nothing symmetric."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    waves = np.exp(2j * np.pi * rng.random((3, *frequency.shape))) / frequency**1.2
    grain = np.fft.irfft2(waves, s=(height, width))
    pixels = 128 + 50 * grain / grain.std()
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def write_photos(folder: Path, count: int, **size: int) -> list[Path]:
    """``count`` different JPEG files."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        photo(number, **size).save(path, quality=92)
    return paths


def grey_levels(images: torch.Tensor) -> np.ndarray:
    """Normalised [B, 3, H, W] back to [B, H, W, 3] float64 in 0..255."""
    return (images.double().cpu().permute(0, 2, 3, 1).numpy() * STD + MEAN) * 255


def pillow_region(picture: Image.Image, start, end, size: int, mirror: int = 0) -> Image.Image:
    """The region of ``picture``, edges rounded to whole pixels, resized and mirrored by Pillow."""
    (top, bottom), (left, right) = (
        [int(np.floor(share * extent + 0.5)) for share in shares]
        for shares, extent in zip(zip(start, end, strict=True), (picture.height, picture.width), strict=True)
    )
    region = picture.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BICUBIC)
    return ImageOps.mirror(region) if mirror else region


def difference(image: np.ndarray, reference: Image.Image) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(image - np.asarray(reference, dtype=np.float64)).mean())
