"""The eight kinds of objects of the demo set, as shapes of two tones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pumlc.errors import require

Point = tuple[float, float]
MAIN, ACCENT, HOLE = "main", "accent", "hole"
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
    """A class of the demo set: what it usually looks like, and how often it is seen.

    Attributes:
        frequency: share of the pictures that show it.
        hue: usual hue, in turns.
        accent: how much lighter its second colour is than its first, negative for darker.
        shape: draws it.
    """

    name: str
    frequency: float
    hue: float
    accent: float
    shape: Callable[[Pen, np.random.RandomState], None]


KINDS = (
    Kind("fish", 0.36, 0.52, -0.25, _fish),
    Kind("leaf", 0.34, 0.33, 0.35, _leaf),
    Kind("star", 0.31, 0.18, -0.35, _star),
    Kind("house", 0.28, 0.07, -0.4, _house),
    Kind("ring", 0.25, 0.12, 0.45, _ring),
    Kind("kite", 0.22, 0.65, -0.35, _kite),
    Kind("mushroom", 0.20, 0.98, 0.5, _mushroom),
    Kind("umbrella", 0.18, 0.82, -0.3, _umbrella),
)
