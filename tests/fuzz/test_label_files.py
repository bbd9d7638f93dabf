"""Damaged label files of every layout: an InputError that names the line or entry, or the matrix that they then say."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumlc.data import load_splits
from pumlc.errors import InputError
from tests.fuzz.expected import READERS
from tests.fuzz.label_files import LABELS, LAYOUTS

SETTINGS = settings(
    max_examples=int(os.environ.get("PUMLC_FUZZ_EXAMPLES", "25")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TOKENS = st.sampled_from(
    ["", "\n", "\r", "\0", "\t", " ", ",", '"', "'", "<", "&", "]", "}", "null", "NaN", "1e999", "-1", "0", "1", "2",
     "99", "99999999999", "9" * 5000, "\u00b2", "\u0661", "\ud800", "../", "/", "a.jpg", "a", "cat", "é", "\ufeff"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | TOKENS
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


PLACE = re.compile(
    r"[,:] line \d+|: line \d+, column \d+|line \d+ column \d+"  # of a text, an XML or a JSON file
    r"|entry \d+ of '|: annotation .* has |: object \d+ |image [^ ]+"  # of what they hold
)
OF_THE_WHOLE = re.compile(
    r"does not exist|cannot be read: (\[Errno|File name too long)|is empty|lists no images|describes no classes"
    r"|has no rows below its header|has no column 'image'|has no column 'split'|has no class columns"
    r"|has no row with split 'train'|holds a JSON|lacks the list|the list 'categories' is empty"
    r"|has no image with an annotation|nested too deeply|Exceeds the limit"
    r"|has \d+ labels; .* lists \d+ images|has \d+ names; \d+ were wanted"
    r"|has none of the images|has no positive label|None of the \d+ images|is not a CUB folder"
)
"""What is wrong with no line in particular: one is missing, or there are too few."""


def assert_named_or_right(layout: str, root: Path) -> str:
    """Which of the two it is."""
    try:
        splits = load_splits(layout, root)
    except InputError as error:
        message = str(error)
        assert str(root) in message, message
        said = message.replace(str(root), "")
        assert PLACE.search(said) or OF_THE_WHOLE.search(said), message
        return "named"
    train = splits.train
    assert train.labels.dtype == np.int8
    found = {
        Path(path).stem: dict(zip(train.class_names, row, strict=True))
        for path, row in zip(train.paths, train.labels.tolist(), strict=True)
    }
    assert found == READERS[layout](root)
    return "right"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sets_are_read_as_they_are_meant(layout, tmp_path):
    LAYOUTS[layout](tmp_path)
    labels = load_splits(layout, tmp_path).train.labels
    assert (labels[:, :2] == LABELS).all()
    assert (labels[:, 2:] == -1).all()
    assert assert_named_or_right(layout, tmp_path) == "right"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files(layout, tmp_path):
    came: Counter[str] = Counter()
    files = [(path, path.read_bytes()) for path in LAYOUTS[layout](tmp_path)]

    @SETTINGS
    @given(st.data())
    def damage(data):
        path, content = data.draw(st.sampled_from(files))
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(damaged)))
            new = data.draw(TOKENS.map(lambda text: text.encode(errors="surrogatepass")) | st.binary(max_size=8))
            damaged[start : start + data.draw(st.integers(0, 12))] = new
        path.write_bytes(damaged)
        try:
            came[assert_named_or_right(layout, tmp_path)] += 1
        finally:
            path.write_bytes(content)

    damage()
    assert came["named"] > 0, came


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a JSON value, at any depth."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@pytest.mark.parametrize("layout", ["coco", "vg"])
def test_other_values_in_json(layout, tmp_path):
    (path,) = (path for path in LAYOUTS[layout](tmp_path) if path.suffix == ".json")
    came: Counter[str] = Counter()
    text = path.read_text()

    @SETTINGS
    @given(st.data())
    def replace(data):
        content = json.loads(text)
        for _ in range(data.draw(st.integers(1, 2))):
            container, key = data.draw(st.sampled_from(places(content)))
            container[key] = data.draw(VALUES)
        path.write_text(json.dumps(content))
        came[assert_named_or_right(layout, tmp_path)] += 1

    replace()
    assert came["named"] > 0, came


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lines_that_are_moved(layout, tmp_path):
    came: Counter[str] = Counter()
    files = [(path, path.read_bytes().splitlines(keepends=True)) for path in LAYOUTS[layout](tmp_path)]

    @SETTINGS
    @given(st.data())
    def move(data):
        path, lines = data.draw(st.sampled_from(files))
        some = st.lists(st.sampled_from(lines), max_size=2 * len(lines))
        path.write_bytes(b"".join(data.draw(some | st.permutations(lines[1:]).map(lambda rest: [lines[0], *rest]))))
        try:
            came[assert_named_or_right(layout, tmp_path)] += 1
        finally:
            path.write_bytes(b"".join(lines))

    move()
    assert min(came["named"], came["right"]) > 0, came
