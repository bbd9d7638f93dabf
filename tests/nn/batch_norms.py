"""BatchNorms as a trained network has them: none of their tensors is what it begins with."""

from __future__ import annotations

from torch import nn


def randomize_batch_norms(network: nn.Module) -> None:
    """Draws weight, bias, running mean and running variance, [C] each, of every BatchNorm2d of a network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
