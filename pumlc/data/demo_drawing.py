"""Drawing for the demo set: ten kinds of objects, textured backgrounds, and pictures made of both.

Everything comes from a ``numpy.random.RandomState``, whose stream never changes between NumPy versions.
Colours are RGB in [0, 1], positions and lengths are pixels unless said otherwise.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pumlc.errors import require

Point = tuple[float, float]
MAIN, ACCENT, HOLE = "main", "accent", "hole"
MIN_SEEN = 0.75  # share of an object that later ones leave in sight
MIN_INSIDE = 0.8  # share of an object that is within the picture
SUPERSAMPLING = 3  # shapes are drawn this much larger and reduced, which smooths their edges


class Pen:
    """Draws a shape given in unit coordinates (the square [-1, 1]², y down), rotated and stretched.

    ``coverage`` says where the object is, ``accent`` where it has its second colour; both are L images.
    """

    def __init__(self, radius: float, angle: float, stretch: float):
        image, draw = require("PIL.Image", "pillow"), require("PIL.ImageDraw", "pillow")
        reach = math.ceil(radius * 1.7)  # a unit square, rotated and stretched, stays within this
        self._centre = reach * SUPERSAMPLING
        scale = radius * SUPERSAMPLING
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        self._matrix = rotation @ np.diag([stretch * scale, scale / stretch])
        side = 2 * self._centre
        self.coverage, self.accent = image.new("L", (side, side)), image.new("L", (side, side))
        self._draw = draw.Draw(self.coverage), draw.Draw(self.accent)

    def polygon(self, points: Iterable[Point], tone: str = MAIN) -> None:
        corners = [tuple(p) for p in (np.array(list(points)) @ self._matrix.T + self._centre).round(2)]
        self._draw[0].polygon(corners, fill=0 if tone == HOLE else 255)
        self._draw[1].polygon(corners, fill=255 if tone == ACCENT else 0)

    def disc(self, x: float, y: float, rx: float, ry: float | None = None, tone: str = MAIN) -> None:
        ry = rx if ry is None else ry
        self.polygon([(x + rx * math.cos(t), y + ry * math.sin(t)) for t in np.linspace(0, math.tau, 40)], tone)

    def bar(self, start: Point, end: Point, width: float, tone: str = MAIN) -> None:
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
        self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], tone)


def _fish(pen: Pen, rng: np.random.RandomState) -> None:
    side, height = rng.choice([-1, 1]), rng.uniform(0.38, 0.52)
    pen.polygon([(side * x, y) for x, y in [(0.35, 0), (0.95, -0.5), (0.8, 0), (0.95, 0.5)]], ACCENT)
    pen.polygon([(0.1, -height * 0.7), (side * 0.3, -height * 1.5), (-side * 0.35, -height * 0.8)], ACCENT)
    pen.disc(-side * 0.2, 0, 0.75, height)
    pen.disc(-side * 0.62, -0.1, 0.09, tone=HOLE)


def _leaf(pen: Pen, rng: np.random.RandomState) -> None:
    width, t = rng.uniform(0.4, 0.6), np.linspace(0, 1, 24)
    edge = width * np.sin(math.pi * t**0.8)
    y = 1.6 * t - 1
    pen.bar((0, 0.5), (0, 1), 0.12, ACCENT)
    pen.polygon([*zip(edge, y, strict=True), *zip(-edge[::-1], y[::-1], strict=True)])
    pen.bar((0, -0.8), (0, 0.6), 0.07, ACCENT)
    for height in (-0.4, -0.05, 0.3):
        for side in (-1, 1):
            pen.bar((0, height), (side * width * 0.65, height - 0.25), 0.06, ACCENT)


def _star(pen: Pen, rng: np.random.RandomState) -> None:
    inner = rng.uniform(0.38, 0.48)
    for radius, tone in ((1.0, MAIN), (0.5, ACCENT)):
        turns = np.arange(10) * math.pi / 5 - math.pi / 2
        lengths = radius * np.where(np.arange(10) % 2, inner, 1.0)
        pen.polygon(zip(lengths * np.cos(turns), lengths * np.sin(turns), strict=True), tone)


def _house(pen: Pen, rng: np.random.RandomState) -> None:
    pitch, side = rng.uniform(0.5, 0.75), rng.choice([-1, 1])
    pen.bar((side * 0.45, -0.9), (side * 0.45, -0.2), 0.2)
    pen.polygon([(-0.72, -0.15), (0.72, -0.15), (0.72, 0.9), (-0.72, 0.9)])
    pen.polygon([(-1, -0.1), (0, -0.1 - pitch - 0.2), (1, -0.1)], ACCENT)
    pen.bar((-side * 0.3, 0.3), (-side * 0.3, 0.9), 0.34, ACCENT)
    pen.bar((side * 0.3, 0.15), (side * 0.3, 0.5), 0.35, HOLE)


def _ring(pen: Pen, rng: np.random.RandomState) -> None:
    pen.disc(0, 0.15, 0.8)
    pen.disc(0, 0.15, rng.uniform(0.52, 0.62), tone=HOLE)
    pen.polygon([(-0.28, -0.95), (0.28, -0.95), (0.42, -0.72), (0, -0.4), (-0.42, -0.72)], ACCENT)


def _kite(pen: Pen, rng: np.random.RandomState) -> None:
    waist, sway = rng.uniform(-0.45, -0.25), rng.choice([-1, 1]) * rng.uniform(0.1, 0.2)
    knots = [(0, 0.3), (sway, 0.5), (-sway, 0.75), (sway, 1.0)]
    for start, end in pairwise(knots):
        pen.bar(start, end, 0.07)
    for x, y in knots[1:]:
        pen.disc(x, y, 0.12, 0.08, ACCENT)
    pen.polygon([(0, -1), (0.6, waist), (0, 0.35), (-0.6, waist)])
    pen.polygon([(0, -1), (0.6, waist), (0, waist)], ACCENT)
    pen.polygon([(0, 0.35), (-0.6, waist), (0, waist)], ACCENT)


def _ladder(pen: Pen, rng: np.random.RandomState) -> None:
    top, bottom = rng.uniform(0.24, 0.36), rng.uniform(0.36, 0.46)
    for y in np.linspace(-0.75, 0.75, rng.randint(4, 7)):
        half = top + (bottom - top) * (y + 1) / 2
        pen.bar((-half, y), (half, y), 0.12, ACCENT)
    for side in (-1, 1):
        pen.bar((side * top, -1), (side * bottom, 1), 0.14)


def _key(pen: Pen, rng: np.random.RandomState) -> None:
    side = rng.choice([-1, 1])
    pen.bar((0, -0.4), (0, 1), 0.17)
    for y in np.linspace(0.9, 0.5, rng.randint(2, 4)):
        pen.bar((0, y), (side * 0.38, y), 0.15)
    pen.disc(0, -0.55, 0.45)
    pen.disc(0, -0.55, rng.uniform(0.18, 0.26), tone=HOLE)


def _mushroom(pen: Pen, rng: np.random.RandomState) -> None:
    foot, t = rng.uniform(0.22, 0.36), np.linspace(0, math.pi, 24)
    pen.polygon([(-0.2, -0.1), (0.2, -0.1), (foot, 0.9), (-foot, 0.9)], ACCENT)
    pen.polygon(zip(0.95 * np.cos(t), 0.1 - 1.0 * np.sin(t), strict=True))
    for x, y, radius in ((-0.45, -0.3, 0.14), (0.05, -0.55, 0.16), (0.5, -0.2, 0.13)):
        pen.disc(x, y, radius, tone=ACCENT)


def _umbrella(pen: Pen, rng: np.random.RandomState) -> None:
    side, height, t = rng.choice([-1, 1]), rng.uniform(0.75, 0.95), np.linspace(0, math.pi, 24)
    pen.bar((0, -1), (0, 0.85), 0.09)
    hook = [(side * (0.18 - 0.18 * math.cos(u)), 0.8 + 0.18 * math.sin(u)) for u in np.linspace(0, math.pi, 7)]
    for start, end in pairwise(hook):
        pen.bar(start, end, 0.1)
    pen.polygon(zip(np.cos(t), -height * np.sin(t), strict=True))
    pen.polygon([(-0.36, 0), (0, -height), (0.36, 0)], ACCENT)
    for x in (-0.68, 0, 0.68):  # scallops along the rim
        pen.disc(x, 0.02, 0.3, 0.13, HOLE)
    pen.bar((0, -0.1), (0, 0.3), 0.09)


@dataclass(frozen=True)
class Kind:
    """A class of the demo set: the share of pictures that show it, its usual hue (in turns) and its shape."""

    name: str
    frequency: float
    hue: float
    shape: Callable[[Pen, np.random.RandomState], None]


KINDS = (
    Kind("fish", 0.40, 0.55, _fish),
    Kind("leaf", 0.36, 0.30, _leaf),
    Kind("star", 0.32, 0.14, _star),
    Kind("house", 0.29, 0.03, _house),
    Kind("ring", 0.26, 0.13, _ring),
    Kind("kite", 0.23, 0.70, _kite),
    Kind("ladder", 0.21, 0.08, _ladder),
    Kind("key", 0.19, 0.60, _key),
    Kind("mushroom", 0.17, 0.98, _mushroom),
    Kind("umbrella", 0.15, 0.85, _umbrella),
)


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
    first += 0.4 * (first.mean() - first)  # duller than the objects
    second = np.clip(first + rng.uniform(-0.2, 0.2, 3), 0, 1)
    return second.astype(np.float32) + (first - second).astype(np.float32) * blend + _grain(rng, width, height, 0.04)


def _sprite(kind: int, radius: float, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """One object on its own: coverage and share of the accent colour, both float32 [h, w] in [0, 1]."""
    pen = Pen(radius, angle=math.radians(rng.uniform(-20, 20)), stretch=math.exp(rng.uniform(-0.15, 0.15)))
    KINDS[kind].shape(pen, rng)
    coverage, accent = (
        np.asarray(layer.reduce(SUPERSAMPLING)) / np.float32(255) for layer in (pen.coverage, pen.accent)
    )
    rows, columns = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return coverage[inside], accent[inside]


def _colours(kind: int, behind: np.ndarray, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Main and accent colour [3] for an object, which stand out from the mean colour ``behind`` it.

    Half of all objects have about the usual hue of their kind and the others any, so that the colour is a hint
    and only the shape tells the kinds apart.
    """
    candidates = []
    for _ in range(4):
        hue = KINDS[kind].hue + rng.normal(0, 0.06) if rng.random_sample() < 0.5 else rng.random_sample()
        candidates.append(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.5, 1), rng.uniform(0.25, 1)))
    main = max(candidates, key=lambda colour: np.abs(colour - behind).sum())
    shift = 0.4 if np.mean(main) < 0.5 else -0.4
    return np.array(main), np.clip(np.array(main) + shift + rng.uniform(-0.15, 0.15, 3), 0, 1)


def picture(
    width: int, height: int, kinds: Sequence[int], rng: np.random.RandomState
) -> tuple[np.ndarray, list[Placed]]:
    """A picture, uint8 [height, width, 3], with one object per entry of ``kinds`` and what is seen of each.

    Later objects may cover part of earlier ones, or reach over the edge, but most of each object stays in
    sight; one that finds no such place in a few tries is left out.
    """
    canvas = background(width, height, rng)
    owner = np.full((height, width), -1)  # which object is seen at a pixel
    sizes: list[int] = []  # pixels of each object in full
    seen: list[int] = []  # pixels of each object in sight
    placed: list[int] = []
    for kind in kinds:
        radius = min(width, height) * math.exp(rng.uniform(math.log(0.19), math.log(0.32)))
        coverage, accent = _sprite(kind, radius, rng)
        solid = coverage > 0.5
        for _ in range(20):
            h, w = coverage.shape
            top, left = (int(rng.uniform(-0.12 * s, f - 0.88 * s)) for s, f in ((h, height), (w, width)))
            ys, xs = max(top, 0), max(left, 0)
            ye, xe = min(top + h, height), min(left + w, width)
            view, part = np.s_[ys:ye, xs:xe], np.s_[ys - top : ye - top, xs - left : xe - left]
            shape = solid[part]
            area = np.count_nonzero(shape)
            hidden = np.bincount(owner[view][shape] + 1, minlength=len(sizes) + 1)[1:]
            left_over = [now - less for now, less in zip(seen, hidden, strict=True)]
            kept = all(now >= MIN_SEEN * size for now, size in zip(left_over, sizes, strict=True))
            if kept and area >= MIN_INSIDE * np.count_nonzero(solid):
                break
        else:
            continue
        owner[view][shape] = len(sizes)
        sizes.append(np.count_nonzero(solid))
        seen = [*left_over, area]
        placed.append(kind)
        _paint(canvas[view], kind, coverage[part], accent[part], rng)
    found = []
    for i, kind in enumerate(placed):
        rows, columns = np.nonzero(owner == i)
        x, y = int(columns.min()), int(rows.min())
        box = (x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y)
        found.append(Placed(kind, box, len(rows)))
    light = 1 + 0.12 * _noise(rng, width, height, (2, 3))[..., None]
    return (np.clip(canvas * light, 0, 1) * 255).round().astype(np.uint8), found


def _paint(canvas: np.ndarray, kind: int, coverage: np.ndarray, accent: np.ndarray, rng: np.random.RandomState) -> None:
    """Paint an object over ``canvas`` [h, w, 3], in place: two colours, light from one side, a little grain."""
    h, w = coverage.shape
    main, second = (colour.astype(np.float32) for colour in _colours(kind, canvas.mean((0, 1)), rng))
    angle = rng.uniform(0, math.tau)
    x, y = np.linspace(-1, 1, w, dtype=np.float32), np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    light = 1 + 0.18 * (x * math.cos(angle) + y * math.sin(angle))[..., None] + _grain(rng, w, h, 0.05)
    colour = (main + (second - main) * accent[..., None]) * light
    canvas += coverage[..., None] * (colour - canvas)
