"""Checkpoints are whole or absent, and a full disk costs nothing that was there."""

from __future__ import annotations

import errno

import pytest
import torch

from pumlc.engine import checkpoint, whole_files
from pumlc.errors import InputError
from pumlc.nn.pretrained import read_metadata, read_tensors


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_keeps_the_last_two(tmp_path):
    for step in (5, 10, 15, 100):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step})
    assert names(tmp_path) == ["step-00000015.pt", "step-00000100.pt"]
    path, state = checkpoint.load_checkpoint(tmp_path)
    assert (path.name, state) == ("step-00000100.pt", {"step": 100})


def test_higher_steps_are_not_its_own_to_drop(tmp_path):
    for step in (10, 100, 110, 15, 20):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step})
    assert names(tmp_path) == ["step-00000015.pt", "step-00000020.pt", "step-00000100.pt", "step-00000110.pt"]


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
        torch.save({"value": torch.zeros(100_000)}, checkpoint._Sealed(file))
    assert whole_files.disk_error(caught.value).errno == errno.ENOSPC


def test_other_errors_leave_no_file_either(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole_files.write_atomically(tmp_path / "a", fail)
    assert names(tmp_path) == []


def test_keeps_as_many_as_asked(tmp_path):
    for step in range(1, 6):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step}, keep=3)
    assert [checkpoint.step_of(path) for path in checkpoint.checkpoints(tmp_path)] == [3, 4, 5]


@pytest.mark.parametrize("size", [0, 1, 72, 73, 100, 2000, -1])
def test_truncated(tmp_path, size):
    path = checkpoint.save_checkpoint(tmp_path, 7, {"value": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"step-00000007\.pt is truncated or damaged.*the only one.*start anew"):
        checkpoint.load_checkpoint(tmp_path)


def test_every_flipped_byte_is_seen(tmp_path):
    path = checkpoint.save_checkpoint(tmp_path, 7, {"value": torch.arange(20.0)})
    whole = path.read_bytes()
    assert checkpoint.damage(path) is None
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "damaged" in checkpoint.damage(path), place


def test_the_newest_whole_one_is_taken(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step}, keep=3)
    second, third = checkpoint.checkpoints(tmp_path)[1:]
    third.write_bytes(third.read_bytes()[:-1])
    whole = second.read_bytes()
    second.write_bytes(whole[:50] + bytes(1) + whole[51:])
    newest = checkpoint.newest_whole(tmp_path)
    assert newest.path.name == "step-00000001.pt"
    assert list(newest.damaged) == [third, second]
    assert "no checksum at its end" in newest.damaged[third]
    assert "its checksum is not that of its content" in newest.damaged[second]
    assert checkpoint.load_checkpoint(tmp_path)[1]["step"] == 1
    checkpoint.set_aside(list(newest.damaged))
    assert names(tmp_path) == ["step-00000001.pt", "step-00000002.pt.damaged", "step-00000003.pt.damaged"]


def test_nothing_in_a_checkpoint_runs_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("hit").touch, ())

    checkpoint.save_checkpoint(tmp_path, 1, {"value": Attack()})
    with pytest.raises(InputError, match=r"step-00000001\.pt is truncated or damaged and cannot be read"):
        checkpoint.load_checkpoint(tmp_path)
    assert not (tmp_path / "hit").exists()


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
