"""Weights from files and from the hub, there or not."""

from __future__ import annotations

import functools
import json
import pickle
import time

import pytest
import safetensors.torch
import timm
import torch

from pumlc.errors import InputError
from pumlc.nn import pretrained
from pumlc.nn.classifier import Classifier
from pumlc.nn.pretrained import load_weights
from tests.nn.attacks import ATTACKS, write_attack


@pytest.fixture
def model():
    return Classifier("test_resnet", 3, image_size=32)


@pytest.fixture
def backbone_weights():
    """As others save them: a timm model with its own classifier, wrapped and nested."""
    torch.manual_seed(5)
    state = timm.create_model("test_resnet").state_dict()
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}


def test_backbone_of_others(model, backbone_weights, tmp_path):
    torch.save(backbone_weights, tmp_path / "weights.pth")
    head = model.head.weight.clone()
    assert load_weights(model, str(tmp_path / "weights.pth")) is None
    expected = backbone_weights["state_dict"]["module.layer4.0.conv1.weight"]
    assert torch.equal(model.backbone.layer4[0].conv1.weight, expected)
    assert torch.equal(model.head.weight, head)


def test_backbone_of_others_with_global_branches(backbone_weights, tmp_path):
    torch.save(backbone_weights, tmp_path / "weights.pth")
    model = Classifier("test_resnet", 3, image_size=32, local_global=True)
    branch = model.backbone.layer4[0].conv1.global_branch.proj.weight.clone()
    assert load_weights(model, str(tmp_path / "weights.pth")) is None
    expected = backbone_weights["state_dict"]["module.layer4.0.conv1.weight"]
    assert torch.equal(model.backbone.layer4[0].conv1.conv.weight, expected)
    assert torch.equal(model.backbone.layer4[0].conv1.global_branch.proj.weight, branch)
    del backbone_weights["state_dict"]["module.layer4.0.conv1.weight"]
    torch.save(backbone_weights, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"1 tensors are missing, such as layer4\.0\.conv1\.conv\.weight"):
        load_weights(model, str(tmp_path / "weights.pth"))


def test_whole_model_with_global_branches(tmp_path):
    model = Classifier("test_resnet", 3, image_size=32, local_global=True)
    path = tmp_path / "best.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    other = Classifier("test_resnet", 3, image_size=32, local_global=True)
    load_weights(other, str(path))
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    with pytest.raises(InputError, match="do not fit this backbone"):
        load_weights(Classifier("test_resnet", 3, image_size=32), str(path))


def test_whole_model(model, tmp_path):
    path = tmp_path / "best.safetensors"
    safetensors.torch.save_file(model.state_dict(), path, {"class_names": json.dumps(["a", "b", "c"])})
    other = Classifier("test_resnet", 3, image_size=32)
    load_weights(other, str(path), class_names=("a", "b", "c"))
    assert torch.equal(other.head.weight, model.head.weight)
    with pytest.raises(InputError, match=r"are for other classes: a, b, c.*the data has a, b, x"):
        load_weights(other, str(path), class_names=("a", "b", "x"))
    with pytest.raises(InputError, match="are for 3 classes, the data has 4"):
        load_weights(Classifier("test_resnet", 4, image_size=32), str(path))


def test_weights_of_another_backbone(model, tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"do not fit this backbone: \d+ tensors are missing"):
        load_weights(model, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(("name", "content"), [("a.pth", b"not a pickle"), ("a.safetensors", b"\x08"), ("b.pth", b"")])
def test_damaged_file(model, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} cannot be read as weights"):
        load_weights(model, str(tmp_path / name))


@pytest.mark.parametrize("name", ATTACKS)
def test_code_in_a_file_is_not_run(model, tmp_path, name):
    path, mark = write_attack(name, tmp_path)
    with pytest.raises(InputError, match=f"{name} cannot be read as weights"):
        load_weights(model, str(path))
    assert not mark.exists()
    load = pickle.load if name == "plain.pkl" else functools.partial(torch.load, weights_only=False)
    with path.open("rb") as file:
        load(file)
    assert mark.exists()  # where it is let


def test_not_a_state_dict(model, tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        load_weights(model, str(tmp_path / "a.pth"))


def test_offline(model, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("must not try to download"))
    before = model.backbone.conv1[0].weight.clone()
    start = time.monotonic()
    warning = load_weights(model, "auto")
    assert time.monotonic() - start < 2 * pretrained.HUB_TIMEOUT
    assert warning.startswith("TRAINING STARTS FROM RANDOM WEIGHTS: no ImageNet weights for test_resnet")
    assert torch.equal(model.backbone.conv1[0].weight, before)
    with pytest.raises(InputError, match="No ImageNet weights for test_resnet: they are not in the cache"):
        load_weights(model, "imagenet")


def test_weights_in_the_cache_need_no_network(model, monkeypatch, tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, file)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: str(file))
    monkeypatch.setattr(pretrained, "_reachable", lambda url: pytest.fail("must not look for the network"))
    assert load_weights(model, "imagenet") is None
    assert torch.equal(model.backbone.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_none_leaves_the_weights_alone(model):
    before = model.backbone.conv1[0].weight.clone()
    assert load_weights(model, "none") is None
    assert torch.equal(model.backbone.conv1[0].weight, before)
