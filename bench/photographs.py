"""JPEG files to measure on: real photographs where there are some, otherwise generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.cases import DATA


def real_photographs(folder: Path | None = None) -> list[Path]:
    """The JPEG files anywhere below a folder, by default those of PUMLC_TEST_DATA; none where it is absent."""
    return sorted((folder or DATA / "coco_native").rglob("*.jpg"))


def write_photographs(folder: Path, count: int, width: int = 640, height: int = 480) -> list[Path]:
    """JPEG files with the spectrum and size of photographs: 1/f brightness, smoother colour, a little grain."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)

        def noise(slope: float, rng: np.random.Generator = rng) -> np.ndarray:
            waves = np.exp(2j * np.pi * rng.random(frequency.shape)) / frequency**slope
            field = np.fft.irfft2(waves, s=(height, width))
            return field / field.std()

        brightness = 128 + 45 * noise(1.15)
        pixels = np.stack([brightness + 25 * noise(1.5) + rng.normal(0, 2, (height, width)) for _ in range(3)], axis=-1)
        paths.append(folder / f"{number:03}.jpg")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths
