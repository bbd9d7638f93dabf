"""Drawing the pictures of the demo set: textured backgrounds with objects on them.

Everything comes from a ``numpy.random.RandomState``, whose stream never changes between NumPy versions.
Colours are RGB in [0, 1], positions and lengths are pixels.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pumlc.data.demo_shapes import KINDS, SUPERSAMPLING, Pen
from pumlc.errors import require

Window = tuple[slice, slice]  # rows, columns
MIN_SEEN = 0.85  # share of an object that later ones leave in sight
MIN_INSIDE = 0.85  # share of an object that is within the picture


@dataclass(frozen=True)
class Placed:
    """An object in a picture: index into ``KINDS``, box (x, y, width, height) and area of what is seen of it."""

    kind: int
    box: tuple[int, int, int, int]
    area: int


def _enlarge(grid: np.ndarray, width: int, height: int) -> np.ndarray:
    """A float32 grid [h, w], smoothly enlarged to [height, width]."""
    image = require("PIL.Image", "pillow")
    enlarged = image.fromarray(grid.astype(np.float32)).resize((width, height), image.Resampling.BICUBIC)
    return np.asarray(enlarged)


def _noise(rng: np.random.RandomState, width: int, height: int, octaves: Sequence[int]) -> np.ndarray:
    """Smooth noise [height, width], about unit variance: random grids of ``octaves`` cells, enlarged and summed."""
    total = sum(_enlarge(rng.standard_normal((cells, cells)), width, height) / math.sqrt(cells) for cells in octaves)
    return (total - total.mean()) / (total.std() + 1e-6)


def _grain(rng: np.random.RandomState, width: int, height: int, amplitude: float) -> np.ndarray:
    """Independent noise [height, width, 1], uniform in +-``amplitude``."""
    return (rng.random_sample((height, width, 1)).astype(np.float32) * 2 - 1) * np.float32(amplitude)


def background(width: int, height: int, rng: np.random.RandomState) -> np.ndarray:
    """A texture of two colours, float32 [height, width, 3]: clouds, planks, tiles, waves or sand."""
    warp = _noise(rng, width, height, (4, 8))
    angle, period = rng.uniform(0, math.pi), rng.uniform(14, 40)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    style = rng.randint(5)
    if style == 0:
        pattern = _noise(rng, width, height, (3, 6, 12, 24))
    elif style == 1:
        pattern = np.sin(across / 3 + 3 * warp) * 0.5 + np.floor(across / period) % 3 - 1
    elif style == 2:
        seams = (along % period < 2) | (across % period < 2)
        pattern = np.where(seams, np.float32(-2), 0.5 * warp)
    elif style == 3:
        pattern = 1.2 * np.sin(math.tau * along / period + 1.5 * warp)
    else:
        pattern = 0.7 * warp + 0.7 * _noise(rng, width, height, (96, 160))
    blend = 1 / (1 + np.exp(-1.2 * pattern))[..., None]
    first = rng.uniform(0.15, 0.85, 3)
    first += 0.8 * (first.mean() - first)  # duller than the objects
    second = np.clip(first + rng.uniform(-0.15, 0.15) + rng.uniform(-0.05, 0.05, 3), 0, 1)
    return second.astype(np.float32) + (first - second).astype(np.float32) * blend + _grain(rng, width, height, 0.04)


def _sprite(kind: int, radius: float, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """One object on its own: coverage and share of the accent colour, both float32 [h, w] in [0, 1]."""
    pen = Pen(radius, angle=math.radians(rng.uniform(-15, 15)), stretch=math.exp(rng.uniform(-0.1, 0.1)))
    KINDS[kind].shape(pen, rng)
    coverage, accent = (
        np.asarray(layer.reduce(SUPERSAMPLING)) / np.float32(255) for layer in (pen.coverage, pen.accent)
    )
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return coverage[inside], accent[inside]


def _colours(kind: int, behind: np.ndarray, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Main and accent colour [3] for an object, which stand out from the mean colour ``behind`` it.

    Most objects have about the usual hue of their kind and the others any, and the usual hues lie so close that
    they overlap: colour is a hint, the shape tells the kinds apart.
    """
    typical = rng.random_sample() < 0.92
    candidates = []
    for _ in range(4):
        hue = KINDS[kind].hue + rng.normal(0, 0.04) if typical else rng.random_sample()
        candidates.append(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.65, 1), rng.uniform(0.55, 1)))
    main = max(candidates, key=lambda colour: np.abs(colour - behind).sum())
    return np.array(main), np.clip(np.array(main) + KINDS[kind].accent + rng.uniform(-0.1, 0.1, 3), 0, 1)


class _Layout:
    """Finds places for objects: later ones may cover part of earlier ones, or reach over the edge a little."""

    def __init__(self, width: int, height: int):
        self.owner = np.full((height, width), -1)  # which object is seen at a pixel
        self._sizes: list[int] = []  # pixels of each object in full
        self._seen: list[int] = []  # pixels of each object in sight

    def place(self, shape: np.ndarray, rng: np.random.RandomState) -> tuple[Window, Window] | None:
        """Where in the picture, and which part of it, an object of ``shape`` (bool [h, w]) is; None if nowhere."""
        (height, width), (h, w), size = self.owner.shape, shape.shape, np.count_nonzero(shape)
        for _ in range(20):
            top, left = (int(rng.uniform(-0.1 * s, f - 0.9 * s)) for s, f in ((h, height), (w, width)))
            y, x = max(top, 0), max(left, 0)
            view = slice(y, min(top + h, height)), slice(x, min(left + w, width))
            part = slice(y - top, view[0].stop - top), slice(x - left, view[1].stop - left)
            inside = shape[part]
            hidden = np.bincount(self.owner[view][inside] + 1, minlength=len(self._sizes) + 1)[1:]
            seen = [now - less for now, less in zip(self._seen, hidden, strict=True)]
            enough = all(now >= MIN_SEEN * full for now, full in zip(seen, self._sizes, strict=True))
            if enough and np.count_nonzero(inside) >= MIN_INSIDE * size:
                self.owner[view][inside] = len(self._sizes)
                self._sizes.append(size)
                self._seen = [*seen, np.count_nonzero(inside)]
                return view, part
        return None

    def box(self, index: int) -> tuple[tuple[int, int, int, int], int]:
        """Box (x, y, width, height) and area of what is seen of an object."""
        rows, columns = np.nonzero(self.owner == index)
        x, y = int(columns.min()), int(rows.min())
        return (x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y), len(rows)


def picture(
    width: int, height: int, kinds: Sequence[int], rng: np.random.RandomState
) -> tuple[np.ndarray, list[Placed]]:
    """A picture, uint8 [height, width, 3], with one object per entry of ``kinds`` and what is seen of each.

    Objects overlap, and most of each stays in sight; one that finds no such place in a few tries is left out.
    """
    canvas = background(width, height, rng)
    layout = _Layout(width, height)
    placed: list[int] = []
    for kind in kinds:
        radius = min(width, height) * math.exp(rng.uniform(math.log(0.22), math.log(0.38)))
        coverage, accent = _sprite(kind, radius, rng)
        place = layout.place(coverage > 0.5, rng)
        if place is not None:
            view, part = place
            placed.append(kind)
            _paint(canvas[view], kind, coverage[part], accent[part], rng)
    light = 1 + 0.12 * _noise(rng, width, height, (2, 3))[..., None]
    pixels = (np.clip(canvas * light, 0, 1) * 255).round().astype(np.uint8)
    return pixels, [Placed(kind, *layout.box(index)) for index, kind in enumerate(placed)]


def _paint(canvas: np.ndarray, kind: int, coverage: np.ndarray, accent: np.ndarray, rng: np.random.RandomState) -> None:
    """Paint an object over ``canvas`` [h, w, 3], in place: two colours, light from one side, a little grain."""
    h, w = coverage.shape
    main, second = (colour.astype(np.float32) for colour in _colours(kind, canvas.mean((0, 1)), rng))
    angle = rng.uniform(0, math.tau)
    x, y = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    light = 1 + 0.18 * (x * math.cos(angle) + y * math.sin(angle))[..., None] + _grain(rng, w, h, 0.05)
    colour = (main + (second - main) * accent[..., None]) * light
    canvas += coverage[..., None] * (colour - canvas)
