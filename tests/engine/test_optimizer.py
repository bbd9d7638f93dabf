"""Which tensors train at which rate."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pumlc.engine.config import Config
from pumlc.engine.optimizer import build_optimizer, model_groups
from pumlc.nn.classifier import Classifier

CONFIG = Config("x", "demo", lr=1e-2, weight_decay=1e-3)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier("test_resnet", 3, image_size=32)


def test_what_is_frozen_is_left_out(model):
    (group,) = model_groups(model)
    assert len(group["params"]) == sum(parameter.requires_grad for parameter in model.parameters())
    assert 0 < len(group["params"]) < len(list(model.parameters()))


def test_a_faster_head(model):
    backbone, head = model_groups(model, 10.0)
    assert [*head["params"]] == [model.head.weight, model.head.bias]
    assert head["lr_factor"] == 10
    assert len(backbone["params"]) + 2 == len(model_groups(model)[0]["params"])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch(model, nesterov):
    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=0.8, nesterov=nesterov)
    extra = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(config, model, [{"params": [extra], "lr_factor": 10.0, "weight_decay": 0.0}])
    assert isinstance(optimizer, torch.optim.SGD)
    main, other = optimizer.param_groups
    wanted = {"lr": 1e-2, "momentum": 0.8, "nesterov": nesterov, "weight_decay": 1e-3}
    assert {name: main[name] for name in wanted} == wanted
    assert (other["weight_decay"], other["lr_factor"], other["params"]) == (0.0, 10.0, [extra])


def test_adam_is_the_default(model):
    optimizer = build_optimizer(CONFIG, model)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(1e-2, 1e-3)]
