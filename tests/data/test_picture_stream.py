"""Streams of pictures: their order, what leaves them, and that they look at a file when its turn comes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pumlc.data import picture_stream
from pumlc.data.picture_stream import PictureStream
from tests.data.odd_files import write_decodable

HOW = {"image_size": 16, "device": torch.device("cpu"), "threads": 1}


@pytest.fixture
def files(tmp_path, picture_table) -> list[Path]:
    """Ten pictures, of which the numbers 0, 3, 4, 5 and 9 are not there."""
    files = [tmp_path / f"{number}.jpg" for number in range(10)]
    for number in (1, 2, 6, 7, 8):
        shutil.copy(picture_table / f"test_{number}.jpg", files[number])
    return files


@pytest.mark.parametrize("window", [4, picture_stream.WINDOW])
def test_what_cannot_be_used_leaves_its_batch(files, monkeypatch, window):
    monkeypatch.setattr(picture_stream, "WINDOW", window)
    batches = list(PictureStream(files, batch_size=3, **HOW))
    assert [row for batch in batches for row in batch.rows] == list(range(10))
    assert [row for batch in batches for row in batch.good] == [1, 2, 6, 7, 8]
    unusable = {row: reason for batch in batches for row, reason in batch.unusable.items()}
    assert list(unusable) == [0, 3, 4, 5, 9]
    assert all(reason == "cannot be read: No such file or directory" for reason in unusable.values())
    assert all((batch.images is None) == (not batch.good) for batch in batches)

    usable = [files[row] for row in (1, 2, 6, 7, 8)]
    alone = torch.cat([batch.images for batch in PictureStream(usable, batch_size=1, **HOW)])
    assert torch.equal(torch.cat([batch.images for batch in batches if batch.good]), alone)


def test_nothing_but_bad_files(files):
    bad = [files[row] for row in (0, 3, 4)]
    (batch,) = PictureStream(bad, batch_size=8, **HOW)
    assert batch.images is None
    assert list(batch.unusable) == [0, 1, 2]
    assert list(PictureStream([], batch_size=8, **HOW)) == []


def test_a_file_is_looked_at_when_its_turn_comes(picture_table, tmp_path):
    late = tmp_path / "late.jpg"
    stream = iter(PictureStream([picture_table / "test_0.jpg"] * 20 + [late], batch_size=1, **HOW))
    next(stream)
    shutil.copy(picture_table / "test_1.jpg", late)
    assert not any(batch.unusable for batch in stream)


def test_odd_files_are_read_by_their_copies(tmp_path):
    paths = write_decodable(tmp_path / "odd")
    batches = list(PictureStream(paths, batch_size=4, **HOW))
    assert not any(batch.unusable for batch in batches)
    assert sum(len(batch.images) for batch in batches) == len(paths)
