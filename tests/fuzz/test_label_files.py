"""Damaged label files of every layout: an InputError that names a file of the data set, or a well-formed matrix."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pumlc.data import load_splits
from pumlc.errors import InputError
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


def load(layout: str, root: Path) -> dict[str, np.ndarray]:
    """The label matrices by split."""
    splits = load_splits(layout, root)
    return {split.split: split.labels for split in (splits.train, splits.val, splits.test) if split is not None}


def assert_named_or_well_formed(layout: str, root: Path) -> None:
    try:
        found = load(layout, root)
    except InputError as error:
        message = str(error)
        assert str(root) in message, message
        return
    for labels in found.values():
        assert labels.dtype == np.int8
        assert set(np.unique(labels)) <= {-1, 0, 1}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sets_are_read_as_they_are_meant(layout, tmp_path):
    LAYOUTS[layout](tmp_path)
    labels = load(layout, tmp_path)["train"]
    assert (labels[:, :2] == LABELS).all()
    assert (labels[:, 2:] == -1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_files(layout, tmp_path):
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
            assert_named_or_well_formed(layout, tmp_path)
        finally:
            path.write_bytes(content)

    damage()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a JSON value, at any depth."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@pytest.mark.parametrize("layout", ["coco", "vg"])
def test_other_values_in_json(layout, tmp_path):
    (path,) = (path for path in LAYOUTS[layout](tmp_path) if path.suffix == ".json")
    text = path.read_text()

    @SETTINGS
    @given(st.data())
    def replace(data):
        content = json.loads(text)
        for _ in range(data.draw(st.integers(1, 2))):
            container, key = data.draw(st.sampled_from(places(content)))
            container[key] = data.draw(VALUES)
        path.write_text(json.dumps(content))
        assert_named_or_well_formed(layout, tmp_path)

    replace()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lines_that_are_moved(layout, tmp_path):
    files = [(path, path.read_bytes().splitlines(keepends=True)) for path in LAYOUTS[layout](tmp_path)]

    @SETTINGS
    @given(st.data())
    def move(data):
        path, lines = data.draw(st.sampled_from(files))
        path.write_bytes(b"".join(data.draw(st.lists(st.sampled_from(lines), max_size=2 * len(lines)))))
        try:
            assert_named_or_well_formed(layout, tmp_path)
        finally:
            path.write_bytes(b"".join(lines))

    move()
