"""convert_local_global and fuse_local_global on the families of timm."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from pumlc.errors import require
from pumlc.nn import LocalGlobalConv2d, convert_local_global, fuse_local_global
from pumlc.nn.fused_local_global import FusedLocalGlobalConv2d

# model of timm -> convolutions wrapped, skipped
FAMILIES = {
    "resnet18": (16, 0),
    "resnet26": (8, 0),
    "convnext_atto": (12, 0),
    "efficientnet_lite0": (16, 1),  # the stem's 3 x 3 has 3 channels
    "mobilenetv3_small_050": (11, 1),
}


def create(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = require("timm").create_model(name, num_classes=5).double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # some begin as 0 and keep whole blocks out of the result
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def convert(model: nn.Module, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # everything that is chosen by default is fused
        return convert_local_global(model, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    model = create(name)
    before = dict(model.named_modules())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = model(images)
    conversion = convert(model)
    assert (len(conversion.wrapped), len(conversion.skipped)) == FAMILIES[name]
    for wrapped in conversion.wrapped:
        module = model.get_submodule(wrapped)
        assert isinstance(module, LocalGlobalConv2d)
        assert module.conv is before[wrapped]  # its weights, not a copy
    assert all("3 input channels, wanted a multiple of the 8 heads" in reason for _, reason in conversion.skipped)
    for wrapped in conversion.wrapped:  # without its branch, the network is what it was
        nn.init.zeros_(model.get_submodule(wrapped).global_branch.norm.weight)
    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)
    for wrapped in conversion.wrapped:
        nn.init.normal_(model.get_submodule(wrapped).global_branch.norm.weight, std=1.0)
    changed = model(images).detach()
    assert (changed - expected).abs().max() > 1e-3
    assert fuse_local_global(model) is model
    assert sum(isinstance(module, FusedLocalGlobalConv2d) for module in model.modules()) == len(conversion.wrapped)
    torch.testing.assert_close(model(images), changed, rtol=1e-9, atol=1e-9)


def test_resnet101_has_33():
    with torch.device("meta"):
        model = require("timm").create_model("resnet101", num_classes=0)
        plain = sum(parameter.numel() for parameter in model.parameters())
        assert str(convert_local_global(model)) == "33 convolutions with a global branch"
    added = sum(parameter.numel() for parameter in model.parameters()) - plain
    assert round(added / 1e6, 2) == 5.44  # as the paper's network


def test_predicate_chooses():
    model = create("resnet18")
    conversion = convert(model, predicate=lambda conv: conv.kernel_size == (3, 3) and conv.stride == (2, 2))
    assert conversion.wrapped == ["layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1"]


def test_skipped_are_named():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3), nn.Conv2d(12, 16, 3, padding=1))
    conversion = convert_local_global(model)
    assert conversion.wrapped == []
    assert [name for name, _ in conversion.skipped] == ["0", "1", "2"]
    assert str(conversion) == "0 convolutions with a global branch, 3 left as they are"


def test_converting_twice_changes_nothing():
    model = create("resnet18")
    assert convert(model).wrapped
    assert not any(module.training for module in model.modules())  # as it was
    keys = set(model.state_dict())
    assert convert(model).wrapped == []
    assert set(model.state_dict()) == keys


def test_one_module_is_fused_by_itself():
    module = LocalGlobalConv2d(nn.Conv2d(8, 8, 3, padding=1)).eval()
    assert isinstance(fuse_local_global(module), FusedLocalGlobalConv2d)


@pytest.mark.slow
def test_compiles_to_one_graph():
    model = create("resnet18").float()
    convert(model)
    images = torch.randn(2, 3, 64, 64)
    for parameter in model.layer1.parameters():  # frozen weights and trained ones take different ways
        parameter.requires_grad_(False)

    def gradients(function):
        loss = function(images).square().mean()
        return loss.detach(), torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    loss, expected = gradients(model)
    compiled_loss, compiled = gradients(torch.compile(model, fullgraph=True))
    torch.testing.assert_close(compiled_loss, loss, rtol=1e-4, atol=1e-5)
    scale = max(gradient.abs().max() for gradient in expected)
    for gradient, truth in zip(compiled, expected, strict=True):
        assert (gradient - truth).abs().max() <= 1e-4 * scale
