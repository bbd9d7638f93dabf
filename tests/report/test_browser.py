"""The pages as a browser shows them, on a desk and on a telephone, in light and in dark."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pumlc.engine.trainer import fit
from pumlc.report.__main__ import main
from tests.engine.runs import tiny_run
from tests.report.browser import Browser, chromium
from tests.report.runs import with_classes, write_run

PHOTOGRAPHS = Path(os.environ.get("PUMLC_TEST_DATA", Path(__file__).parents[2] / "../shared/data")) / "scenes"
SPLITS = {"train": 48, "val": 24, "test": 48}  # every so many of the photographs
DESK, TELEPHONE = (1280, 900), (390, 844)

# what sticks out of the window, apart from what scrolls within a box of its own
OUTSIDE = """
[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  const scrolls = e.parentElement.closest(".panel");
  return !scrolls && box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(e => e.outerHTML.slice(0, 100))
"""

# texts that are cut off by the edge of their drawing
CLIPPED = """
[...document.querySelectorAll("svg text")].filter(e => {
  const box = e.getBoundingClientRect(), frame = e.ownerSVGElement.getBoundingClientRect();
  return box.left < frame.left - 0.5 || box.right > frame.right + 0.5 || box.top < frame.top - 0.5 ||
    box.bottom > frame.bottom + 0.5;
}).map(e => e.textContent)
"""

# pictures that are not there, or squeezed to nothing
NOT_DRAWN = """
[...document.images].filter(e => !e.complete || !e.naturalWidth || e.clientWidth < 20 || e.clientHeight < 20).length
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(picture_table, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [write_run(folder / name, picture_table, head=head) for name, head in (("a", "full"), ("b", "linear"))]
    assert main([str(runs[0]), "--device", "cpu"]) == 0
    assert main([str(runs[0]), "--compare", str(runs[1])]) == 0
    with_classes(runs[1], 1000)
    assert main([str(runs[1]), "--device", "cpu"]) == 0
    with_classes(runs[0], 1000)
    many = runs[1] / "comparison.html"
    assert main(["--compare", *map(str, runs), "--out", str(many)]) == 0
    return {
        "comparison of many classes": many,
        "report": runs[0] / "report.html",
        "comparison": runs[0] / "comparison.html",
        "many classes": runs[1] / "report.html",
    }


@pytest.mark.parametrize("size", [DESK, TELEPHONE], ids=["desk", "telephone"])
@pytest.mark.parametrize("name", ["report", "comparison", "many classes"])
def test_fits_the_window(browser, pages, name, size):
    browser.open(pages[name], *size)
    assert browser.evaluate("innerWidth") == size[0]
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert browser.evaluate(OUTSIDE) == []
    assert browser.evaluate(CLIPPED) == []
    assert browser.evaluate(NOT_DRAWN) == 0
    assert browser.evaluate("document.querySelectorAll('svg').length") >= 3


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_asks_for_nothing_and_complains_of_nothing(browser, pages, name):
    browser.open(pages[name], *DESK)
    assert browser.evaluate("document.title").endswith("pumlc")  # which a class name wants to change
    outside = [url for url in browser.requests if not url.startswith("data:image/jpeg;base64,")]
    assert outside == [pages[name].resolve().as_uri()]
    assert browser.complaints == []
    # the policy of the page holds: it could not even ask
    answer = "fetch('http://192.0.2.1/').then(() => 'answered', () => 'refused')"
    assert browser.evaluate(answer) == "refused"
    assert any("Content Security Policy" in each for each in browser.complaints)


def test_pictures_curves_and_both_schemes_are_painted(browser, pages):
    ink = {}
    for dark in (False, True):
        browser.open(pages["report"], *DESK, dark=dark)
        shot = np.asarray(browser.screenshot(), np.int16)
        assert shot.shape[1] == DESK[0]
        assert shot.shape[0] > 2 * DESK[1]
        ink[dark] = np.median(shot)
        for selector, colours in ((".card > img", 200), (".maps img", 200), (".chart svg", 20)):
            top, left, height, width = browser.evaluate(
                f"(b => [b.top, b.left, b.height, b.width].map(Math.round))"
                f"(document.querySelector('{selector}').getBoundingClientRect())"
            )
            part = shot[top : top + height, left : left + width].reshape(-1, 3)
            assert len(np.unique(part, axis=0)) > colours, selector
    assert ink[False] > 200
    assert ink[True] < 60


def test_classes_can_be_sorted(browser, pages):
    browser.open(pages["report"], *DESK)
    names = "[...document.querySelectorAll('.classes tbody tr')].map(row => row.cells[2].textContent)"
    heading = "document.querySelector('.classes thead th:nth-child(3)')"
    assert browser.evaluate(names) == ["4", "5", "6", "0"]
    browser.evaluate(f"{heading}.firstElementChild.click()")
    assert browser.evaluate(names) == ["6", "5", "4", "0"]
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.evaluate(f"{heading}.firstElementChild.click()")
    assert browser.evaluate(names) == ["0", "4", "5", "6"]


@pytest.mark.parametrize("name", ["many classes", "comparison of many classes"])
def test_many_classes_are_folded(browser, pages, name):
    browser.open(pages[name], *DESK)
    rows = "[...document.querySelectorAll('#classes tbody tr')]"
    visible = f"{rows}.filter(e => e.clientHeight).map(e => e.cells[0].textContent)"
    folded = browser.evaluate(visible)
    assert len(folded) == 30
    assert (folded[0], folded[-1]) == ("class 0", "class 999")
    browser.evaluate("document.querySelector('.unfold').click()")
    assert len(browser.evaluate(visible)) == 1000
    assert pages[name].stat().st_size < 1.5e6


def test_a_run_on_photographs(browser, tmp_path):
    table = PHOTOGRAPHS / "labels.csv"
    if not table.is_file():
        pytest.skip(f"no photographs in {PHOTOGRAPHS}; PUMLC_TEST_DATA says where scenes is")
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    of_split = [[row for row in rows if row[1] == split][::every] for split, every in SPLITS.items()]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        chosen = [[str(table.parent.resolve() / row[0]), *row[1:]] for row in itertools.chain(*of_split)]
        csv.writer(file).writerows([header, *chosen])
    config = dataclasses.replace(tiny_run(tmp_path, tmp_path / "run"), head="full", image_size=96, steps=3, prob=0.6)
    assert fit(config) == 0
    assert main([config.out, "--device", "cpu", "--pictures", "6"]) == 0
    page = Path(config.out) / "report.html"
    for size in (DESK, TELEPHONE):
        browser.open(page, *size)
        assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert browser.evaluate(OUTSIDE) == browser.evaluate(CLIPPED) == []
        assert browser.evaluate(NOT_DRAWN) == 0
    assert browser.complaints == []
    assert browser.evaluate("document.querySelectorAll('.card > img').length") == 6
    assert browser.evaluate("document.querySelectorAll('.maps img').length") >= 6
    assert browser.evaluate("document.querySelector('.tiles .value').textContent").endswith(" %")
