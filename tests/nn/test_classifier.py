"""The backbone from timm: shapes, what trains, and names that are not there."""

from __future__ import annotations

import pytest
import torch

from pumlc.errors import InputError
from pumlc.nn.classifier import Classifier


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_logits(name):
    model = Classifier(name, 7, image_size=64)
    logits = model(torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert logits.shape == (2, 7)
    assert model.num_classes == 7


def test_recipe_trains_the_last_stage_and_the_head():
    model = Classifier("test_resnet", 3, image_size=32)
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"layer4", "weight", "bias"}  # the last two of the head
    assert all(p.requires_grad for p in Classifier("test_resnet", 3, train_all=True).parameters())


def test_resnet101_has_the_published_number_of_trained_parameters():
    model = Classifier("resnet101", 80)
    trained = sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in model.backbone.layer4.parameters()) == 14_964_736


def test_global_branches_train_in_the_recipe():
    plain = Classifier("test_resnet", 3, image_size=32)
    model = Classifier("test_resnet", 3, image_size=32, local_global=True)
    assert len(model.conversion.wrapped) == 9
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    branches = {name for name, _ in model.named_parameters() if ".global_branch." in name}
    assert branches
    inner = {name.replace(".conv.", ".") for name in trained - branches}
    assert inner == {name for name, p in plain.named_parameters() if p.requires_grad}
    assert "9 convolutions with a global branch" in model.summary()
    assert not any(module.training for name, module in model.train().named_modules() if name.endswith("norm"))


def test_batchnorm_keeps_its_statistics_in_the_recipe():
    images = torch.randn(4, 3, 32, 32) + 3
    frozen = Classifier("test_resnet", 3, image_size=32).train()
    before = [b.clone() for b in frozen.buffers()]
    first = frozen(images)
    assert frozen.training
    assert torch.equal(frozen(images), first)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.buffers(), strict=True))
    assert frozen.moving_buffers() == []

    free = Classifier("test_resnet", 3, image_size=32, train_all=True).train()
    before = [b.clone() for b in free.moving_buffers()]
    free(images)
    assert before
    assert not any(torch.equal(a, b) for a, b in zip(before, free.moving_buffers(), strict=True))


def test_logits_are_float32_under_autocast():
    model = Classifier("test_resnet", 3, image_size=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(torch.randn(2, 3, 32, 32)).dtype == torch.float32


def boosted(name: str, boost: float = 5.0, **options) -> Classifier:
    torch.manual_seed(0)
    return Classifier(name, 3, image_size=64, boost=boost, **options).eval()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_without_positive_activations_nothing_is_boosted(name):
    """The mean over positions and the linear units are in another order then, and the logits the same.

    Where all are positive, the logits are five times as large.
    """
    images = torch.randn(2, 3, 64, 64)
    plain, model = boosted(name, 1.0), boosted(name)
    model.load_state_dict(plain.state_dict())
    assert not torch.allclose(model(images), plain(images), atol=1e-3)
    for network in (plain, model):
        network.head.bias.fill_(-20.0)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-4, atol=1e-4)
    for network in (plain, model):
        network.head.bias.fill_(20.0)
    torch.testing.assert_close(model(images), 5 * plain(images), rtol=1e-4, atol=1e-4)


def test_boosted_logits_and_their_gradient():
    model, images = boosted("test_resnet", train_all=True), torch.randn(2, 3, 64, 64)
    features = model.backbone.forward_features(images)
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in model.head.parameters())
    activations = (features[:, None] * weight[:, :, None, None]).sum(2) + bias[:, None, None]
    assert 0.1 < (activations > 0).float().mean() < 0.9
    expected = torch.where(activations > 0, 5 * activations, activations).mean((2, 3))
    logits = model(images)
    torch.testing.assert_close(logits, expected)
    upstream = torch.tensor([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]])
    first = next(model.backbone.parameters())
    ours = torch.autograd.grad(logits, [model.head.weight, model.head.bias, first], upstream)
    for gradient, wanted in zip(ours, torch.autograd.grad(expected, [weight, bias, first], upstream), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_boosted_logits_are_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert boosted("test_resnet")(torch.randn(2, 3, 64, 64)).dtype == torch.float32


def test_the_summary_says_what_is_boosted():
    assert boosted("test_resnet").summary().endswith(", positive class activations x 5")
    assert "activations" not in boosted("test_resnet", 1.0).summary()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_vit", "test_vit ends in no feature map, which --boost works on"),
        ("test_convnext", "features are the mean of its last map, but test_convnext does more"),  # a norm
        ("mobilenetv3_small_050", "but mobilenetv3_small_050 does more"),  # a layer
    ],
)
def test_backbones_that_cannot_be_boosted(name, message):
    with pytest.raises(InputError, match=message):
        boosted(name)


class Scale(torch.nn.Module):
    """The identity, until it has trained."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


@pytest.mark.parametrize("pooling", ["max", "scaled"])
def test_another_pooling_cannot_be_boosted(pooling, monkeypatch):
    timm = pytest.importorskip("timm")

    def create_backbone(name, image_size):
        if pooling == "max":
            return timm.create_model(name, num_classes=0, global_pool="max")
        backbone = timm.create_model(name, num_classes=0)
        backbone.global_pool = torch.nn.Sequential(backbone.global_pool, Scale())
        return backbone

    monkeypatch.setattr("pumlc.nn.backbone.create_backbone", create_backbone)
    with pytest.raises(InputError, match="test_resnet does more after that map"):
        boosted("test_resnet")


@pytest.mark.parametrize("boost", [1.0, 5.0])
@pytest.mark.parametrize(("name", "side"), [("test_resnet", 64), ("swin_tiny_patch4_window7_224", 224)])
def test_class_maps_have_the_logits_as_their_means(name, side, boost):
    torch.manual_seed(0)
    model = Classifier(name, 3, image_size=side, boost=boost).eval()
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        maps = model.class_maps(images)
        assert maps.shape == (2, 3, maps.shape[2], maps.shape[2])
        torch.testing.assert_close(maps.mean((2, 3)), model(images), rtol=1e-4, atol=1e-5)
    if name == "test_resnet":
        at = model.backbone.forward_features(images)[1, :, 1, 0]
        value = model.head(at)[2]
        torch.testing.assert_close(maps[1, 2, 1, 0], boost * value if value > 0 else value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [("test_vit", "which a class activation map works on"), ("test_convnext", "A class activation map needs")],
)
def test_backbones_without_class_maps(name, message):
    model = Classifier(name, 3, image_size=160).eval()
    with pytest.raises(InputError, match=message):
        model.class_maps(torch.zeros(1, 3, 160, 160))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1O1", r"Unknown backbone 'resnet1O1'\. Near names: .*resnet101"),
        ("xyzzy", r"timm\.list_models\(\) names them all"),
        ("resnet18.nope", r"Invalid pretrained tag.*resnet18\.a1_in1k"),
    ],
)
def test_unknown_backbone(name, message):
    with pytest.raises(InputError, match=message):
        Classifier(name, 3)
