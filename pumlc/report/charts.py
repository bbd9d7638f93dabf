"""Line charts as SVG, drawn without a library: axes with round numbers, lines, dots, a legend.

A chart is as wide as a telephone and grows a little on a larger screen, so that its text can be read on both. Colours
are those of the style sheet (``--series-1`` …), which knows light and dark.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pumlc.report.markup import Markup, element

WIDTH, HEIGHT = 360, 230  # of the view box, which are pixels on a telephone
COLOURS = 8
MOST_POINTS = 300  # of a line; more are averaged, since no screen shows them
_TOP, _RIGHT, _BOTTOM = 10, 14, 40
_CHARACTER = 6.2  # width of a digit of the axes, with room


class Point(NamedTuple):
    x: float
    y: float | None  # None interrupts the line
    radius: float | None = None  # of its dot; by default that of the series


@dataclass(frozen=True)
class Series:
    """One line with its name in the legend."""

    name: str
    points: Sequence[Point]
    colour: int = 1  # from 1 to COLOURS
    dashed: bool = False
    radius: float = 0.0  # of a dot at every point; 0 for none


@dataclass(frozen=True)
class Axis:
    """What is drawn along a side: ``low`` and ``high`` where they are given, else what the data needs."""

    label: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Mark:
    """A vertical line through the whole chart, with its meaning."""

    x: float
    label: str


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x_axis: Axis,
    y_axis: Axis,
    *,
    marks: Sequence[Mark] = (),
    diagonal: bool = False,
) -> Markup:
    """A figure with its caption and legend; says so where there is nothing to draw.

    Args:
        title, description: for the eye, and for those who cannot see the chart; a page has a title once.
        diagonal: draw the line where x is y.
    """
    series = [line for line in series if any(point.y is not None for point in line.points)]
    caption = element("figcaption", title)
    if not series:
        return element("figure", caption, element("p", "The log holds nothing of this.", class_="quiet"))
    frame = _Frame.around(series, x_axis, y_axis)
    lines = [_line(frame, each) for each in series]
    ideal = [element("path", d=_path([(frame.x(v), frame.y(v)) for v in (0.0, 1.0)]), class_="ideal")]
    name = "chart-" + re.sub(r"\W+", "-", title.lower())
    drawing = element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-description"),
        frame.draw(x_axis.label, y_axis.label),
        [_mark(frame, mark) for mark in marks if frame.x_low <= mark.x <= frame.x_high],
        ideal if diagonal else None,
        lines,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-description",
    )
    return element("figure", caption, drawing, _legend(series, marks), class_="chart")


@dataclass(frozen=True)
class _Frame:
    """From numbers to places in the view box."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_low: float
    x_high: float
    left: float

    @classmethod
    def around(cls, series: Sequence[Series], x_axis: Axis, y_axis: Axis) -> _Frame:
        xs = [point.x for line in series for point in line.points]
        ys = [point.y for line in series for point in line.points if point.y is not None]
        x_low = min(xs) if x_axis.low is None else x_axis.low
        x_high = max(xs) if x_axis.high is None else x_axis.high
        if x_high <= x_low:
            x_high = x_low + 1
        y_ticks = ticks(
            min(ys) if y_axis.low is None else y_axis.low, max(ys) if y_axis.high is None else y_axis.high, 5
        )
        x_ticks = [tick for tick in ticks(x_low, x_high, 6) if x_low <= tick <= x_high]
        widest = max(len(text) for text in tick_texts(y_ticks))
        return cls(x_ticks, y_ticks, x_low, x_high, left=26 + _CHARACTER * widest)

    @property
    def bottom(self) -> float:
        return HEIGHT - _BOTTOM

    def x(self, value: float) -> float:
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - _RIGHT - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.bottom - (value - low) / (high - low) * (self.bottom - _TOP)

    def draw(self, x_label: str, y_label: str) -> Markup:
        """Grid, numbers and labels."""
        parts = []
        for tick, text in zip(self.y_ticks, tick_texts(self.y_ticks), strict=True):
            y = self.y(tick)
            parts.append(element("path", d=_path([(self.left, y), (WIDTH - _RIGHT, y)]), class_="grid"))
            parts.append(element("text", text, x=self.left - 6, y=y + 3.5, text_anchor="end"))
        for tick, text in zip(self.x_ticks, tick_texts(self.x_ticks), strict=True):
            parts.append(element("text", text, x=self.x(tick), y=self.bottom + 15, text_anchor="middle"))
        middle = (_TOP + self.bottom) / 2
        parts.append(element("text", x_label, x=(self.left + WIDTH - _RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
        parts.append(
            element("text", y_label, x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})")
        )
        return element("g", parts, class_="axes")


def _line(frame: _Frame, series: Series) -> Markup:
    points = list(thin(series.points, MOST_POINTS))
    pieces = []
    for there, piece in itertools.groupby(points, key=lambda point: point.y is not None):
        places = [(frame.x(point.x), frame.y(point.y)) for point in piece] if there else []
        if len(places) > 1:
            pieces.append(_path(places))
    radius = series.radius or (2.5 if len(points) == 1 else 0)
    dots = [element("circle", cx=frame.x(x), cy=frame.y(y), r=own or radius) for x, y, own in points if y is not None]
    dashes = "line dashed" if series.dashed else "line"
    return element(
        "g",
        element("path", d="".join(pieces), class_=dashes) if pieces else None,
        dots if radius or any(point.radius for point in points) else None,
        class_=f"series-{series.colour}",
    )


def _mark(frame: _Frame, mark: Mark) -> Markup:
    x = frame.x(mark.x)
    return element(
        "g", element("title", mark.label), element("path", d=_path([(x, _TOP), (x, frame.bottom)])), class_="mark"
    )


def _legend(series: Sequence[Series], marks: Sequence[Mark]) -> Markup | None:
    """None where the title says it all."""
    if len(series) == 1 and not marks:
        return None
    entries = [element("li", _sample(line.colour, "dashed" if line.dashed else ""), line.name) for line in series]
    entries += [
        element("li", element("span", class_="sample mark"), label) for label in dict.fromkeys(m.label for m in marks)
    ]
    return element("ul", entries, class_="legend")


def _sample(colour: int, style: str) -> Markup:
    return element("span", class_=f"sample series-{colour} {style}".strip())


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def thin(points: Sequence[Point], most: int) -> Iterator[Point]:
    """The points, or where there are more than ``most``, the means of neighbours."""
    size = -(-len(points) // most)
    if size <= 1:
        yield from points
        return
    for first in range(0, len(points), size):
        group = points[first : first + size]
        values = [point.y for point in group if point.y is not None]
        y = sum(values) / len(values) if values else None
        yield Point(sum(point.x for point in group) / len(group), y)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Some ``count`` round numbers at equal distances, from at most ``low`` to at least ``high``."""
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """The numbers with as many digits as it takes to tell them apart."""
    step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
    largest = max(map(abs, values), default=0.0)
    if 0 < largest < 1e-3 or largest >= 1e6:
        return ["0" if value == 0 else f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e") for value in values]
    digits = next((d for d in range(10) if abs(round(step, d) - step) < 1e-9 * max(step, 1e-3)), 9)
    return [f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in values]
