"""Scores and labels that metrics have to get right: ugly ones first."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import torch
from hypothesis import strategies as st
from torch import Tensor


@st.composite
def scored(draw: st.DrawFn, values: int = 1000, unknown: bool = True) -> tuple[Tensor, Tensor]:
    """Logits [N, C] float32 out of ``values`` different ones, so that few tie or most do, and labels [N, C] int8."""
    shape = draw(st.tuples(st.integers(1, 25), st.integers(1, 4)))
    steps = draw(arrays.arrays("int16", shape, elements=st.integers(0, values - 1)))
    labels = draw(arrays.arrays("int8", shape, elements=st.sampled_from([-1, 0, 1] if unknown else [-1, 1])))
    return torch.from_numpy(steps).float() / values - 0.5, torch.from_numpy(labels)


def random_scores(
    images: int, classes: int, seed: int, *, tied: bool = False, unknown: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Logits [N, C] that tell something of the labels [N, C], a share of which is unknown; no class is empty."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.linspace(0.05, 0.6, classes)
    positive = torch.rand(images, classes, generator=generator) < rates
    positive[torch.arange(classes) % images, torch.arange(classes)] = True
    logits = torch.randn(images, classes, generator=generator) + 1.5 * positive - 1
    labels = torch.where(positive, 1, -1).to(torch.int8)
    labels[torch.rand(images, classes, generator=generator) < unknown] = 0
    labels[torch.arange(classes) % images, torch.arange(classes)] = 1
    return (logits.round() if tied else logits), labels
