"""A gated graph network: classes tell each other what they see, along how often they are seen together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


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

    State-dict names of the layers are those of the published module. The layers that read the same vector are one
    matrix product; the adjacency is broadcast over the batch.

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
            setattr(self, f"fc_{gate}_w", nn.Linear(2 * features, features))
            setattr(self, f"fc_{gate}_u", nn.Linear(features, features))

    def forward(self, h: Tensor) -> Tensor:
        """h [B, C, features] -> [B, C, features]."""
        heard, own, own_last = self._layers(h.dtype)
        adjacency = self.adjacency.to(h.dtype)
        for _ in range(self.steps):
            a = torch.cat([adjacency @ h, adjacency.mT @ h], 2)  # [B, C, 2 features]
            gates, candidate = linear(a, *heard).split((2 * self.features, self.features), 2)
            z, r = torch.sigmoid(gates + linear(h, *own)).chunk(2, 2)
            candidate = torch.tanh(candidate + linear(r * h, *own_last))
            h = torch.lerp(h, candidate, z)
        return h

    def _layers(self, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], ...]:
        """Weight and bias of fc_{1,2,3}_w, of fc_{1,2}_u, and of fc_3_u, in the dtype of h."""
        groups = ((self.fc_1_w, self.fc_2_w, self.fc_3_w), (self.fc_1_u, self.fc_2_u), (self.fc_3_u,))
        return tuple(
            (
                torch.cat([layer.weight for layer in group]).to(dtype),
                torch.cat([layer.bias for layer in group]).to(dtype),
            )
            for group in groups
        )

    def extra_repr(self) -> str:
        return f"classes={len(self.adjacency)}, features={self.features}, steps={self.steps}"
