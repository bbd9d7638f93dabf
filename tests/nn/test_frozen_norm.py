"""Frozen BatchNorms inside the convolutions before them: the same numbers, and nothing where something trains."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pumlc.nn import fuse_local_global
from pumlc.nn.classifier import Classifier
from pumlc.nn.frozen_norm import AbsorbedBatchNorm2d, NormedConv2d, fold_frozen_norms
from pumlc.nn.local_global import LocalGlobalConv2d
from tests.nn.batch_norms import randomize_batch_norms

TOLERANCE = 1e-10  # of float64, relative to the largest


def make(local_global: bool = False, backbone: str = "test_resnet", train_all: bool = False) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(backbone, 4, image_size=64, train_all=train_all, local_global=local_global)
    randomize_batch_norms(model)
    return model.double().train()


def apart(model: Classifier) -> Classifier:
    """A copy whose norms work for themselves."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, AbsorbedBatchNorm2d):
            module.frozen_norm.active = False
    return model


def absorbed(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, AbsorbedBatchNorm2d)}


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("local_global", [False, True], ids=["plain", "local-global"])
def test_outputs_and_gradients_are_those_of_the_norms(local_global):
    model = make(local_global)
    other = apart(model)
    assert absorbed(model)
    if local_global:
        assert any(isinstance(m, LocalGlobalConv2d) and m.frozen_norm is not None for m in model.modules())
    x = images()
    for mode in (True, False):
        y, expected = model.train(mode).backbone(x), other.train(mode).backbone(x)
        assert (y - expected).abs().max() <= TOLERANCE * expected.abs().max()
    y.sin().sum().backward()
    expected.sin().sum().backward()
    for (name, parameter), twin in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (parameter.grad is None) == (twin.grad is None), name
        if parameter.grad is not None:
            assert (parameter.grad - twin.grad).abs().max() <= TOLERANCE * max(1.0, twin.grad.abs().max()), name


def test_resnet101_folds_every_norm_below_the_last_stage():
    with torch.device("meta"):
        model = Classifier("resnet101", 80, image_size=448, local_global=True, train_all=False)
    below = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and "layer4" not in name and "global_branch" not in name
    }
    assert len(below) == 94
    assert absorbed(model) == below


def test_what_trains_keeps_its_norm():
    assert not absorbed(make(train_all=True))
    model = make()
    assert not any(
        parameter.requires_grad
        for module in model.modules()
        if isinstance(module, AbsorbedBatchNorm2d)
        for parameter in module.parameters()
    )
    model.backbone.requires_grad_(True)  # set free later: every pair is two modules again
    x = images()
    model.backbone(x).sum().backward()
    folded = [module for module in model.modules() if isinstance(module, AbsorbedBatchNorm2d)]
    assert all(module.weight.grad is not None for module in folded)


def test_statistics_of_the_batch_are_taken_where_the_norm_trains():
    model = make()
    norm = next(module for module in model.modules() if isinstance(module, AbsorbedBatchNorm2d))
    before = norm.running_mean.clone()
    norm.train()
    model.backbone(images())
    assert not torch.equal(norm.running_mean, before)


def test_changed_tensors_are_seen():
    model = make()
    x = images()
    with torch.inference_mode():
        first = model.backbone(x)
    weights = {
        name: 1.5 * tensor if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights)
    assert not torch.allclose(model.backbone(x), first)
    assert torch.allclose(model.backbone(x), apart(model).backbone(x))
    assert model.backbone(x).requires_grad  # what an evaluation has made serves training too


def test_names_and_sizes_of_the_state_dict_stay():
    import timm

    plain = timm.create_model("test_resnet", num_classes=0).state_dict()
    folded = make().backbone.state_dict()
    assert {name: t.shape for name, t in folded.items()} == {name: t.shape for name, t in plain.items()}


def test_an_output_that_is_used_twice_is_left_alone():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.twice, self.norm_of_twice = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward_features(self, x):
            x = self.norm(self.once(x))
            y = self.twice(x)
            return self.norm_of_twice(y) + y

    network = Twice().eval().requires_grad_(False)
    x = torch.randn(2, 3, 4, 4)
    expected = network.forward_features(x)
    assert fold_frozen_norms(network, 4) == [("once", "norm")]
    assert isinstance(network.once, NormedConv2d)
    torch.testing.assert_close(network.forward_features(x), expected)


def test_fused_local_global_convolutions_leave_the_norm_to_itself():
    model = make(local_global=True).eval()
    x = images()
    expected = model.backbone(x)
    y = fuse_local_global(copy.deepcopy(model)).backbone(x)
    assert (y - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_under_autocast():
    model = make(local_global=True).float()
    x = images().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = model.backbone(x), apart(model).backbone(x)
    assert y.dtype == expected.dtype
    torch.testing.assert_close(y, expected, rtol=0.05, atol=0.05)
