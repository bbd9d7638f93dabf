"""pumlc.nn.PUMLC against the network as published, in float64; what trains; and any backbone with a feature map."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pumlc.errors import InputError
from pumlc.nn import PUMLC, co_occurrence
from pumlc.nn.classifier import Classifier
from pumlc.nn.pretrained import load_weights
from pumlc.nn.published_weights import from_published, load_published, to_published
from tests.nn.batch_norms import randomize_batch_norms
from tests.nn.published_recogniser import PublishedRecogniser

CLASSES = 6
GRAPH = {"graph.adjacency": torch.eye(CLASSES)}  # which has no gradient
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-9, 1e-8  # of float64, the second relative to the largest gradient


def make_published(local_global: bool = True) -> PublishedRecogniser:
    torch.manual_seed(0)
    labels = (torch.rand(40, CLASSES) < 0.3).to(torch.int8)
    labels[:, 0] = 0
    published = PublishedRecogniser(
        "test_resnet", torch.randn(CLASSES, 300), co_occurrence(labels), local_global=local_global
    )
    randomize_batch_norms(published)
    return published.train_as_published()


def make_ours(local_global: bool = True) -> PUMLC:
    return PUMLC(
        "test_resnet", CLASSES, image_size=288, local_global=local_global, words=torch.zeros(CLASSES, 300)
    ).train()


@pytest.mark.parametrize("local_global", [False, True], ids=["plain", "local-global"])
def test_is_the_published_network(local_global):
    published, ours = make_published(local_global).double(), make_ours(local_global)
    load_published(ours, published.state_dict())
    ours.double()
    images = torch.randn(2, 3, 288, 288, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    y, expected = ours(images), published(images)
    assert expected.std() > 0.1
    assert (y - expected).abs().max() <= OUTPUT_TOLERANCE

    def gradients(model: nn.Module, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (logits * torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}

    truth = gradients(published, expected)
    own = gradients(ours, y)
    found = {name: gradient for name, gradient in to_published({**own, **GRAPH}).items() if "Matrix" not in name}
    assert found.keys() == truth.keys()
    largest = max(gradient.abs().max() for gradient in truth.values())
    for name, gradient in truth.items():
        scale = max(gradient.abs().max(), 1e-6 * largest)  # of the biases before the softmax only rounding is left
        assert (found[name] - gradient).abs().max() <= GRADIENT_TOLERANCE * scale, name


def test_published_sizes():
    with torch.device("meta"):
        model = PUMLC("resnet101", 80, local_global=True, words=torch.empty(80, 300))
    sizes = [parameter.numel() for parameter in model.parameters()]
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    matrices = 2 * model.graph.adjacency.numel()  # parameters of the published network, both
    assert round((sum(sizes) + matrices) / 1e6, 2) == 62.64
    assert round(sum(trained) / 1e6, 2) == 35.06


def test_what_trains():
    model = make_ours()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    kept = {name for name, _ in model.named_parameters()} - trained
    assert "words" in kept
    assert all(name == "words" or (name.startswith("backbone.") and "global_branch" not in name) for name in kept)
    assert {name.split(".")[0] for name in trained} == {"backbone", "narrow", "decoupling", "graph", "fc", "head"}
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    learned = PUMLC("test_resnet", CLASSES, image_size=64)
    assert learned.words.requires_grad
    assert learned.words.shape == (CLASSES, 300)
    assert torch.equal(learned.graph.adjacency, torch.eye(CLASSES))


@pytest.mark.parametrize(
    "name",
    ["test_resnet", "test_efficientnet", "test_convnext", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"],
)
def test_backbones(name):
    model = PUMLC(name, 3, image_size=64, train_all=True).train()
    logits = model(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert logits.shape == (2, 3)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(("side", "positions"), [(288, 16), (224, 49), (64, 4)])
def test_positions(side, positions, monkeypatch):
    model = PUMLC("test_resnet", 3, image_size=side).eval()
    seen = []
    monkeypatch.setattr(model.decoupling, "scores", lambda x, words: seen.append(x) or x.new_zeros(1, 3, x.shape[1]))
    model(torch.randn(1, 3, side, side))
    assert seen[0].shape == (1, positions, 1024)


def test_logits_are_float32_under_autocast():
    model, images = make_ours().eval(), torch.randn(2, 3, 64, 64)
    expected = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.float32
    assert (logits - expected).norm() <= 0.05 * expected.norm()


def test_compiles_to_one_graph():
    model, images = make_ours(False).eval(), torch.randn(2, 3, 64, 64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backbone": "test_vit"}, InputError, "test_vit ends in no feature map.*--head linear"),
        ({"words": torch.zeros(2, 300)}, ValueError, r"words: got shape \[2, 300\], wanted \[3, 300\]"),
        ({"adjacency": torch.zeros(3, 2)}, ValueError, r"adjacency: got shape \[3, 2\], wanted \[3, 3\]"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        PUMLC(**{"backbone": "test_resnet", "num_classes": 3, "image_size": 64, **arguments})


def test_state_dict_there_and_back():
    published = make_published().state_dict()
    ours = from_published(published)
    assert ours.keys() == make_ours().state_dict().keys()
    again = to_published(ours)
    assert again.keys() == published.keys()
    for name, tensor in published.items():
        assert torch.equal(again[name], tensor), name


def test_weights_of_a_published_recogniser(tmp_path):
    published, ours = make_published(), make_ours()
    path = tmp_path / "published.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in published.state_dict().items()}}, path)
    load_weights(ours, str(path))
    images = torch.randn(1, 3, 288, 288)
    torch.testing.assert_close(ours(images), published(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="They need --head full"):
        load_weights(Classifier("test_resnet", CLASSES), str(path))
    with pytest.raises(InputError, match="are for 6 classes, the data has 3"):
        load_weights(PUMLC("test_resnet", 3, image_size=64), str(path))


def without(state: dict, name: str) -> dict:
    return {key: tensor for key, tensor in state.items() if key != name}


def test_strict_conversion():
    published, ours = make_published().state_dict(), make_ours()
    before = copy.deepcopy(ours.state_dict())
    matrix = published["inMatrix"]
    broken = {
        "1 tensors of the published recogniser are not known: extra": {**published, "extra": matrix},
        r"0 tensors of it have no place, and 1 tensors \(fc\.bias\)": without(published, "fc.bias"),
        r"1 tensors \(backbone\.extra\) of it have no place, and 0": {**published, "backbone.extra": matrix},
        "lacks outMatrix": without(published, "outMatrix"),
        r"outMatrix is not inMatrix or its transpose": {**published, "outMatrix": matrix + 1},
        r"not finite in the rows \[0\]": {**published, "inMatrix": matrix.index_fill(0, torch.tensor(0), torch.nan)},
        r"fc\.bias is \[5\], wanted \[1024\]": {**published, "fc.bias": torch.zeros(5)},
    }
    for message, tensors in broken.items():
        with pytest.raises(InputError, match=message):
            load_published(ours, tensors)
    with pytest.raises(InputError, match="without global branches"):
        load_published(ours, make_published(local_global=False).state_dict())
    with pytest.raises(InputError, match="1 tensors of the recogniser are not known: extra"):
        to_published({**before, "extra": matrix})
    with pytest.raises(InputError, match=r"lacks graph\.adjacency"):
        to_published(without(before, "graph.adjacency"))
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(
    ("backbone", "side"), [("test_resnet", 64), ("test_resnet", 288), ("swin_tiny_patch4_window7_224", 224)]
)
def test_class_maps_are_the_weights_of_the_decoupling(backbone, side):
    torch.manual_seed(0)
    model = PUMLC(backbone, CLASSES, image_size=side).eval()
    seen = {}
    model.decoupling.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0], semantic=output))
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        maps = model.class_maps(images)
        model(images)
    assert maps.shape[:2] == (2, CLASSES)
    assert maps.shape[2] == maps.shape[3] > 1
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, CLASSES))
    torch.testing.assert_close(maps.flatten(2) @ seen["x"], seen["semantic"])
