"""The specification of :func:`pumlc.ops.elementwise_loss`, in plain PyTorch, as :mod:`pumlc.ops.reference` is that of
the other operators."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pumlc.ops.loss_kinds import LOSS_KINDS, loss_parameters


def elementwise_loss(logits: Tensor, labels: Tensor, kind: str = "an", **parameters: float) -> Tensor:
    """The loss of a batch: the terms of :func:`loss_terms`, averaged or added up as the kind wants it.

    Args:
        logits: [B, C], floating point.
        labels: [B, C]; above 0 is positive, 0 unobserved, below a known negative.
        kind: a key of LOSS_KINDS.
        **parameters: of that kind, by name.
    """
    terms = loss_terms(logits, labels, kind, **parameters)
    return terms.mean() if LOSS_KINDS[kind].mean else terms.sum()


def loss_terms(logits: Tensor, labels: Tensor, kind: str, **parameters: float) -> Tensor:
    """What each image and class costs, [B, C]. Arguments as for :func:`elementwise_loss`."""
    values = loss_parameters(kind, parameters)
    return _TERMS[kind](logits, labels > 0, labels == 0, **values)


# Each takes z [B, C], masks [B, C] of positive and of unobserved labels, and the parameters of LOSS_KINDS. log p is
# logsigmoid(z) and log(1 - p) is logsigmoid(-z), for the one rounds to 0 and the other to 1 in a small dtype.


def cross_entropy(z: Tensor, positive: Tensor) -> Tensor:
    """-log p where positive, else -log(1 - p); z [B, C], positive [B, C] bool -> [B, C]."""
    return -logsigmoid(torch.where(positive, z, -z))


def _ignore(z: Tensor, positive: Tensor, unobserved: Tensor) -> Tensor:
    return torch.where(unobserved, 0.0, cross_entropy(z, positive))


def _weak(z: Tensor, positive: Tensor, unobserved: Tensor) -> Tensor:
    entropy = cross_entropy(z, positive)
    return torch.where(unobserved, entropy / (z.shape[1] - 1), entropy)


def _smoothed(z: Tensor, positive: Tensor, unobserved: Tensor, smoothing: float) -> Tensor:
    return (1 - smoothing) * cross_entropy(z, positive) + smoothing * cross_entropy(z, ~positive)


def _focal(z: Tensor, positive: Tensor, gamma: float) -> Tensor:
    wrong = torch.where(positive, -z, z)
    return -torch.exp(gamma * logsigmoid(wrong)) * logsigmoid(-wrong)


def _asymmetric(
    z: Tensor, positive: Tensor, unobserved: Tensor, gamma_neg: float, gamma_pos: float, clip: float
) -> Tensor:
    if clip == 0:
        return torch.where(positive, _focal(z, positive, gamma_pos), _focal(z, positive, gamma_neg))
    shifted = (torch.sigmoid(z) - clip).clamp(min=0)
    base = torch.where(shifted > 0, shifted, 1.0)  # of 0, a power has no slope; the logarithm beside it is 0
    negative = -(base**gamma_neg) * torch.log((torch.sigmoid(-z) + clip).clamp(max=1))
    return torch.where(positive, _focal(z, positive, gamma_pos), negative)


def _hill(z: Tensor, positive: Tensor, unobserved: Tensor, margin: float, gamma: float, lamb: float) -> Tensor:
    p = torch.sigmoid(z)
    return torch.where(positive, _focal(z - margin, positive, gamma), (lamb - p) * p**2)


def _corrected(
    z: Tensor, positive: Tensor, unobserved: Tensor, margin: float, gamma: float, tau: float, correct: float
) -> Tensor:
    missed = unobserved & (torch.sigmoid(z) > tau) if correct else torch.zeros_like(positive)
    return _focal(torch.where(positive, z - margin, z), positive | missed, gamma)


def _entropy(z: Tensor, positive: Tensor, unobserved: Tensor, alpha: float) -> Tensor:
    negative_entropy = torch.sigmoid(z) * logsigmoid(z) + torch.sigmoid(-z) * logsigmoid(-z)
    return torch.where(unobserved, alpha * negative_entropy, cross_entropy(z, positive))


def _robust(
    z: Tensor,
    positive: Tensor,
    unobserved: Tensor,
    w: float,
    b: float,
    mu: float,
    sigma: float,
    q2: float,
    q3: float,
) -> Tensor:
    p = torch.sigmoid(z.detach())
    k = torch.sigmoid(w * p + b)
    v = torch.exp(-(((p - mu) / sigma) ** 2) / 2)
    false_negative = -torch.expm1(q2 * logsigmoid(z)) / q2  # (1 - p ** q2) / q2
    true_negative = -torch.expm1(q3 * logsigmoid(-z)) / q3
    return torch.where(unobserved, v * (k * false_negative + (1 - k) * true_negative), cross_entropy(z, positive))


_TERMS = {
    "an": lambda z, positive, unobserved: cross_entropy(z, positive),
    "ignore": _ignore,
    "wan": _weak,
    "ls": _smoothed,
    "focal": lambda z, positive, unobserved, gamma: _focal(z, positive, gamma),
    "asl": _asymmetric,
    "hill": _hill,
    "splc": _corrected,
    "em": _entropy,
    "gr": _robust,
}
