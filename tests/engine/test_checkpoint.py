"""Checkpoints are whole or absent, and a full disk costs nothing that was there."""

from __future__ import annotations

import errno

import pytest
import torch

from pumlc.engine import checkpoint
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_metadata, read_tensors


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_keeps_the_last_two(tmp_path):
    for step in (5, 10, 100, 15):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step})
    assert names(tmp_path) == ["step-00000015.pt", "step-00000100.pt"]
    path, state = checkpoint.load_checkpoint(tmp_path)
    assert (path.name, state) == ("step-00000100.pt", {"step": 100})


def full_disk(state, file):
    file.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_inside_torch(state, file):
    try:
        full_disk(state, file)
    except OSError:
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos") from None


@pytest.mark.parametrize("save", [full_disk, full_disk_inside_torch])
def test_full_disk(tmp_path, monkeypatch, save):
    checkpoint.save_checkpoint(tmp_path, 1, {"value": torch.arange(3)})
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(InputError, match=r"step-00000002\.pt could not be written: No space left.*untouched"):
        checkpoint.save_checkpoint(tmp_path, 2, {"value": torch.arange(3)})
    assert names(tmp_path) == ["step-00000001.pt"]
    assert checkpoint.load_checkpoint(tmp_path)[1]["value"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("buffering", [0, 8192])
def test_full_disk_as_torch_meets_it(buffering):
    with pytest.raises((OSError, RuntimeError)) as caught:  # noqa: PT012
        file = open("/dev/full", "wb", buffering=buffering)  # noqa: SIM115
        torch.save({"value": torch.zeros(100_000)}, file)
    assert checkpoint.disk_error(caught.value).errno == errno.ENOSPC


def test_other_errors_leave_no_file_either(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.write_atomically(tmp_path / "a", fail)
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_truncated(tmp_path, size):
    path = checkpoint.save_checkpoint(tmp_path, 7, {"value": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"step-00000007\.pt is truncated or damaged.*start anew"):
        checkpoint.load_checkpoint(tmp_path)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        checkpoint.load_checkpoint(tmp_path)


def test_weights_with_header(tmp_path):
    path = tmp_path / "best.safetensors"
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    checkpoint.save_weights(path, {"weight": weight}, {"class_names": ["a", "b"], "image_size": 32})
    assert read_metadata(path) == {"class_names": '["a", "b"]', "image_size": "32"}
    assert torch.equal(read_tensors(path)["weight"], weight)
    assert names(tmp_path) == ["best.safetensors"]
