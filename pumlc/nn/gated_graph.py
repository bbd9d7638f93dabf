"""A gated graph network: classes tell each other what they see, along how often they are seen together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc.nn.linear import Linear


def co_occurrence(labels: Tensor) -> Tensor:
    """How often a class is there where another one is: out[i, j] = P(j | i), from the known positives.

    A class without any known positive is connected to nothing but itself.

    Args:
        labels: [N, C], 1 positive, everything else is not counted.

    Returns:
        [C, C] float32, with a diagonal of 1.
    """
    positive = (labels == 1).to(torch.float32)
    together = positive.mT @ positive  # exact below 2 ** 24 images
    probability = together / together.diagonal().clamp(min=1)[:, None]
    return probability.fill_diagonal_(1.0)


class GatedGraphNetwork(nn.Module):
    """Steps of a gated graph network (arXiv 1511.05493) over the classes, as PU-MLC (arXiv 2306.16016) has it::

        a = [A h; A^T h]
        z = sigmoid(fc_1_w(a) + fc_1_u(h))      r = sigmoid(fc_2_w(a) + fc_2_u(h))
        h <- (1 - z) h + z tanh(fc_3_w(a) + fc_3_u(r h))

    State-dict names of the layers are those of the published module. The adjacency is broadcast over the batch.

    Args:
        adjacency: A, [C, C]; a buffer, such as :func:`co_occurrence` gives.
        features: size of the vectors h.
        steps: how often the classes hear of each other.
    """

    def __init__(self, adjacency: Tensor, features: int = 1024, steps: int = 3) -> None:
        super().__init__()
        self.features = features
        self.steps = steps
        self.register_buffer("adjacency", adjacency)
        for gate in (1, 2, 3):
            setattr(self, f"fc_{gate}_w", Linear(2 * features, features))
            setattr(self, f"fc_{gate}_u", Linear(features, features))

    def forward(self, h: Tensor) -> Tensor:
        """h [B, C, features] -> [B, C, features]."""
        adjacency = self.adjacency.to(h.dtype)
        for _ in range(self.steps):
            a = torch.cat([adjacency @ h, adjacency.mT @ h], 2)  # [B, C, 2 features]
            z = torch.sigmoid(self.fc_1_w(a) + self.fc_1_u(h))
            r = torch.sigmoid(self.fc_2_w(a) + self.fc_2_u(h))
            candidate = torch.tanh(self.fc_3_w(a) + self.fc_3_u(r * h))
            h = torch.lerp(h, candidate, z)
        return h

    def extra_repr(self) -> str:
        return f"classes={len(self.adjacency)}, features={self.features}, steps={self.steps}"
