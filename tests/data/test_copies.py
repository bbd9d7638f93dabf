"""Copies of what Pillow alone can decode: they go with their process, and having no room for them is no verdict."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data.loader import EvaluationLoader
from pumlc.data.quarantine import Quarantine
from pumlc.errors import InputError
from tests.data.grim import MINUTES
from tests.data.odd_files import write_decodable


def loader_of(path: Path, quarantine: Quarantine | None = None) -> EvaluationLoader:
    return EvaluationLoader(
        [path],
        np.zeros((1, 1), np.int8),
        batch_size=1,
        image_size=32,
        device=torch.device("cpu"),
        threads=1,
        quarantine=quarantine,
    )


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def pillow_alone(folder: Path) -> Path:
    """A picture that DALI refuses."""
    return next(path for path in write_decodable(folder) if path.name == "junk_between_segments.jpg")


def test_copies_where_there_is_no_room(tmp_path, temporary, monkeypatch):
    """It says nothing of the picture."""
    path = pillow_alone(tmp_path / "data")
    quarantine = Quarantine([path], tmp_path / "data", "train")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match=rf"temporary folder {temporary}: No space left on device.*TMPDIR"):
        list(loader_of(path, quarantine))
    assert not quarantine.reasons


def test_copies_of_processes_that_were_killed_are_removed(tmp_path, temporary):
    path = pillow_alone(tmp_path / "data")
    program = f"""
import os, signal, tempfile
from pathlib import Path
from PIL import Image
from pumlc.data.copies import Copies
tempfile.tempdir = {str(temporary)!r}
copies = Copies()
copies.keep("0", Image.new("RGB", (4, 4)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, timeout=MINUTES).returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    loaders = [loader_of(path) for _ in range(2)]
    for loader in loaders:
        assert len(list(loader)) == 1
    assert not left.exists()
    assert len(list(temporary.iterdir())) == 2  # each has its own, and none that of a living one
    for folder in temporary.iterdir():  # a cleaner of such folders comes by
        shutil.rmtree(folder)
    assert len(list(loaders[0])) == 1
    del loader, loaders
    gc.collect()
    assert not list(temporary.iterdir())
