"""Which tensors an optimiser trains, and how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pumlc.engine.config import Config
from pumlc.nn.backbone import BackboneNetwork


def build_optimizer(
    config: Config, model: BackboneNetwork, groups: Iterable[dict[str, Any]] = ()
) -> torch.optim.Optimizer:
    """The optimiser of what trains in the model, and of more ``groups`` of parameters."""
    all_groups = [*model_groups(model, config.head_lr_factor), *groups]
    if config.optimizer == "adam":
        return fused_adam(all_groups, config.lr, config.weight_decay)
    return torch.optim.SGD(
        all_groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )


def model_groups(model: BackboneNetwork, head_lr_factor: float = 1.0) -> list[dict[str, Any]]:
    """What trains, in one group where all of it has the same learning rate: backbone first, then what follows it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if head_lr_factor == 1:
        return [{"params": trained}]
    in_backbone = set(model.backbone.parameters())
    groups = [
        {"params": [parameter for parameter in trained if parameter in in_backbone]},
        {"params": [parameter for parameter in trained if parameter not in in_backbone], "lr_factor": head_lr_factor},
    ]
    return [group for group in groups if group["params"]]


def fused_adam(parameters: Iterable[Tensor | dict[str, Any]], lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam in one kernel over the tensors, or the groups of them; the weight decay is added to the gradient."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
