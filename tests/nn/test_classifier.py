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
