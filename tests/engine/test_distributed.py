"""Devices, and what processes tell each other; with one process everything is the identity."""

from __future__ import annotations

import pytest
import torch

import pumlc
from pumlc.engine.distributed import World, choose_device, join
from pumlc.errors import InputError


def test_alone():
    here = World(torch.device("cpu"))
    values = torch.tensor([1.0, 2.0])
    assert here.is_main
    assert here.group is None
    assert here.sum(values).tolist() == here.min(values).tolist() == [1.0, 2.0]
    assert here.gather("a") == ["a"]
    assert here.on_main(lambda: 3) == 3
    model = torch.nn.Linear(1, 1)
    assert here.wrap(model) is model


def test_no_process_group_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join("cpu", timeout_minutes=1) as here:
        assert here.size == 1
        assert not torch.distributed.is_initialized()


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="--device cuda cannot be used: this machine has no GPU"):
        choose_device("cuda")


def test_gpu_but_a_build_without_cuda(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(pumlc, "build_info", lambda: {"cuda": False})
    with pytest.raises(InputError, match="built without CUDA; build it again with PUMLC_CUDA=1"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")
    assert "NOT USING THE GPU: pumlc was built without CUDA" in capsys.readouterr().out


def test_fewer_gpus_than_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(pumlc, "build_info", lambda: {"cuda": True})
    with pytest.raises(InputError, match="there are 1 GPUs for 2 processes"):
        choose_device("cuda", local_rank=1, local_size=2)
    assert choose_device("cuda", local_rank=0, local_size=1) == torch.device("cuda", 0)
