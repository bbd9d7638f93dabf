"""The specification of every operator, in plain PyTorch.

The same signatures as the operators and the same results up to rounding; autograd differentiates them, twice if
asked. Tests compare the kernels with these functions, benchmarks measure against them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

EPSILON = 1e-10


class PuStatistics(NamedTuple):
    """Per-class statistics of a batch, each of shape [C]."""

    positives: Tensor
    """Number of rows labelled positive, n."""
    temperature: Tensor
    """tau, the factor that the logits were divided by."""
    mean_probability: Tensor
    """mu, the mean of sigmoid(logits / tau) over the rows."""
    weight: Tensor
    """The re-balance factor mu ** gamma."""
    loss: Tensor
    """The loss of the class; the loss of the batch is their sum."""


def pu_statistics(
    logits: Tensor, labels: Tensor, alpha: float = 1.0, gamma: float = 0.55, *, min_temperature: float = 1e-2
) -> PuStatistics:
    """The PU loss of every class (PU-MLC, arXiv 2306.16016) and what it is made of.

    Args:
        logits: [B, C], floating point.
        labels: [B, C]; above 0 is positive, everything else unlabelled.
        alpha: temperature per standard deviation of a class's logits.
        gamma: exponent of the re-balance factor.
        min_temperature: lower bound of the temperature, which is at most 1.
    """
    positive = (labels > 0).to(logits.dtype)
    positives = positive.sum(0)
    deviation = logits.detach().var(0, correction=0).sqrt()
    temperature = (alpha * deviation).clamp(min_temperature, 1.0)
    scaled = logits / temperature
    mean_probability = torch.sigmoid(scaled).mean(0)
    weight = mean_probability.detach() ** gamma
    log_probability = torch.where(labels > 0, logsigmoid(scaled), 0.0).sum(0) / positives.clamp(min=1)
    loss = weight * torch.log(mean_probability + EPSILON) - log_probability
    return PuStatistics(positives, temperature, mean_probability, weight, loss)


def pu_loss(
    logits: Tensor, labels: Tensor, alpha: float = 1.0, gamma: float = 0.55, *, min_temperature: float = 1e-2
) -> Tensor:
    """The PU loss of a batch: the sum of the class losses of :func:`pu_statistics`. Returns a scalar."""
    return pu_statistics(logits, labels, alpha, gamma, min_temperature=min_temperature).loss.sum()
