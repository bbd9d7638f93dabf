"""Charts: round numbers, nothing outside the frame, gaps where there is no number."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from pumlc.report.charts import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    Axis,
    Mark,
    Point,
    Series,
    line_chart,
    thin,
    tick_texts,
    ticks,
)
from tests.report.documents import Element, parse

RANGES = [
    (0, 1),
    (-3.1, 0.43),
    (0, 100),
    (73.39, 83.75),
    (1e-7, 3e-4),
    (2e6, 5e7),
    (5, 5),
    (0, 0),
    (-2, -2),
    (1, 1.001),
]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_ticks_are_round_and_cover_the_data(low, high):
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 8
    assert found[0] <= low
    assert found[-1] >= high
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert max(steps) - min(steps) < 1e-6 * max(steps)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5)) < 1e-6
    texts = tick_texts(found)
    assert len(set(texts)) == len(texts)
    assert [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts] == pytest.approx(found, rel=5e-3, abs=1e-12)


def chart(*series: Series, **options) -> Element:
    return parse(line_chart("Title of it", "What it shows.", series, Axis("epoch", low=0), Axis("loss"), **options))


def places(figure: Element) -> list[tuple[float, float]]:
    """All points of lines and dots."""
    found = [(float(c.attributes["cx"]), float(c.attributes["cy"])) for c in figure.all("circle")]
    for path in figure.all("path", "line"):
        numbers = [float(text) for text in re.findall(r"-?[\d.]+", path.attributes["d"])]
        found += zip(numbers[::2], numbers[1::2], strict=True)
    return found


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_everything_is_within_the_frame(low, high):
    figure = chart(Series("a", [Point(0, low), Point(3, high), Point(7.3, (low + high) / 2)], radius=2))
    found = places(figure)
    assert len(found) == 6
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in found)
    heights = [y for _, y in found[:2]]
    assert heights[0] > heights[1] or low == high  # up is more
    assert all(0 <= float(text.attributes["x"]) <= WIDTH for text in figure.all("text"))


def test_a_gap_interrupts_the_line_and_one_point_is_a_dot():
    figure = chart(Series("a", [Point(0, 1), Point(1, 2), Point(2, None), Point(3, 2), Point(4, 3)]))
    assert figure.all("path", "line")[0].attributes["d"].count("M") == 2
    alone = chart(Series("a", [Point(1, 2)]))
    assert len(alone.all("circle")) == 1
    assert not alone.all("path", "line")


def test_long_lines_are_averaged():
    points = [Point(x, x % 2) for x in range(10_000)]
    found = list(thin(points, MOST_POINTS))
    assert MOST_POINTS / 2 < len(found) <= MOST_POINTS
    assert found[0].y == pytest.approx(0.5, abs=0.02)
    assert list(thin(points[:MOST_POINTS], MOST_POINTS)) == points[:MOST_POINTS]
    assert next(thin([Point(0, None), Point(1, 4.0)] * MOST_POINTS, MOST_POINTS)).y == 4.0


def test_legend_and_marks():
    lines = [Series("one", [Point(0, 1), Point(2, 2)]), Series("two", [Point(0, None)], colour=2)]
    figure = chart(*lines, marks=[Mark(1, "resumed"), Mark(1.5, "resumed"), Mark(9, "beyond")])
    assert [each.text for each in figure.all("li")] == ["one", "resumed", "beyond"]
    assert len(figure.all("g", "mark")) == 2
    assert "holds nothing" in chart(Series("a", [Point(0, None)])).text
