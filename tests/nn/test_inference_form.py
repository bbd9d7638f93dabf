"""The inference form of a network against the network, in float64; what is left of its BatchNorms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pumlc import ops
from pumlc.nn import PUMLC
from pumlc.nn.classifier import Classifier
from pumlc.nn.fused_local_global import FusedLocalGlobalConv2d
from pumlc.nn.inference_form import inference_form
from pumlc.ops import reference
from tests.nn.batch_norms import randomize_batch_norms

TOLERANCE = 1e-10  # of float64


def make(head: type, backbone: str, local_global: bool) -> nn.Module:
    torch.manual_seed(0)
    model = head(backbone, 3, image_size=64, train_all=True, local_global=local_global)
    randomize_batch_norms(model)
    return model.double().eval()


@pytest.mark.parametrize("local_global", [False, True], ids=["plain", "local-global"])
@pytest.mark.parametrize(
    ("head", "backbone"),
    [
        (Classifier, "test_resnet"),
        (
            Classifier,
            "test_efficientnet",
        ),  # whose norms hold the activation, some of them behind depthwise convolutions
        (Classifier, "test_convnext"),  # which has no BatchNorm
        (PUMLC, "test_resnet"),
    ],
)
@torch.no_grad()
def test_logits_are_those_of_the_network(head, backbone, local_global):
    model = make(head, backbone, local_global)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    features = model.backbone.forward_features(images)
    expected = model.forward_head(features) if head is PUMLC else features
    wrapped = len(model.conversion.wrapped)
    merged = inference_form(model)
    found = merged.backbone.forward_features(images)
    found = merged.forward_head(found) if head is PUMLC else found
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    assert sum(isinstance(module, FusedLocalGlobalConv2d) for module in merged.modules()) == wrapped
    assert not any(parameter.requires_grad for parameter in merged.parameters())

    state = {name: tensor.clone() for name, tensor in merged.state_dict().items()}
    again = inference_form(merged).state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_norms_that_are_not_alone_behind_a_convolution_stay():
    model = make(Classifier, "test_resnet", False)

    class Between(nn.Module):
        """A norm behind an activation, as residual networks with pre-activation have it."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1).double(), nn.BatchNorm2d(8).double()

        def forward_features(self, x):
            return self.norm(torch.relu(self.conv(x)))

    model.backbone = Between().eval()
    randomize_batch_norms(model)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = model.backbone.forward_features(images)
    assert torch.equal(inference_form(model).backbone.forward_features(images), expected)
    assert isinstance(model.backbone.norm, nn.BatchNorm2d)


def test_a_network_with_frozen_norms_is_refused():
    with pytest.raises(ValueError, match="frozen norms"):
        inference_form(Classifier("test_resnet", 3, image_size=64, train_all=False))


def test_exported_graphs_call_plain_functions():
    assert ops.operators() is ops
    seen = []

    class Asks(nn.Module):
        def forward(self, x):
            seen.append(ops.operators())
            return x + 1

    torch.export.export(Asks(), (torch.ones(2),))
    assert seen
    assert all(module is reference for module in seen)
