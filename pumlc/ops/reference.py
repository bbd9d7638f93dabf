"""The specification of every operator, in plain PyTorch.

The same signatures as the operators and the same results up to rounding; autograd differentiates them, twice if
asked. Tests compare the kernels with these functions, benchmarks measure against them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, logsigmoid

from pumlc.ops.reference_losses import cross_entropy

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


def mixup_consistency(
    logits: Tensor,
    labels: Tensor,
    mixed_logits: Tensor,
    permutation: Tensor,
    mix: Tensor | float,
    *,
    eps: float = EPSILON,
    detach_target: bool = False,
) -> Tensor:
    """The mixup regulariser of PU-MLC (arXiv 2306.16016): the model's answer to a mixture of two images against the
    mixture of its answers to each, as a squared difference of logarithms.

    Args:
        logits: [B, C], floating point. With h = ceil(B / 2), pair i has the rows permutation[i] and B - h + i.
        labels: [B, C]; above 0 is positive, everything else unlabelled.
        mixed_logits: [h, C]: of the images mix * images[permutation] + (1 - mix) * images[B - h :].
        permutation: [h], of the rows of the first half.
        mix: scalar, the share of the first half.
        eps: added to probabilities.
        detach_target: no gradient by ``logits``.

    Returns:
        Scalar: the sum over classes of the mean over pairs.
    """
    half = len(permutation)
    target = torch.where(labels > 0, 1.0, torch.sigmoid(logits) + eps)
    if detach_target:
        target = target.detach()
    mixture = mix * target[:half][permutation] + (1 - mix) * target[len(target) - half :]
    difference = torch.log(mixture + eps) - torch.log(torch.sigmoid(mixed_logits) + eps)
    return difference.square().mean(0).sum()


def large_loss(logits: Tensor, labels: Tensor, k: int, mode: str) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy that rejects or corrects the k largest losses on unobserved labels, and all equal to the
    smallest of them (Large Loss Matters, arXiv 2206.03740).

    On unobserved labels, which are taken for negatives, the loss grows strictly with the logit: logits are compared.

    Args:
        logits: [B, C], floating point.
        labels: [B, C]; above 0 is positive, below 0 a known negative, 0 unobserved.
        k: how many; 0 for none. Of fewer unobserved entries all.
        mode: "reject", loss 0, or "correct", the loss of a positive.

    Returns:
        Scalar: the mean over all entries; and [B, C] bool: which entries were rejected or corrected.
    """
    unobserved = (labels == 0) & ~logits.isnan()
    corrected = torch.zeros_like(unobserved)
    if k > 0:
        lowest = torch.where(unobserved, logits.detach(), -torch.inf)
        threshold = lowest.flatten().topk(min(k, logits.numel()), sorted=False).values.min()
        corrected = unobserved & (logits >= threshold)
    target = (labels > 0) | corrected if mode == "correct" else labels > 0
    loss = cross_entropy(logits, target)
    if mode == "reject":
        loss = torch.where(corrected, 0.0, loss)
    return loss.mean(), corrected


def attention_pool(x: Tensor, scores: Tensor, *, grouped: bool = False) -> Tensor:
    """Attention-weighted means of the positions of a feature map: softmax over H x W per head, then the weighted sum.

    Args:
        x: [B, C, H, W], floating point.
        scores: [B, K, H, W], of the dtype of x; K heads.
        grouped: each channel under its own head alone: channel c under head c // (C / K).

    Returns:
        [B, K, C], or [B, C] where grouped.
    """
    weights = scores.flatten(2).softmax(2)  # [B, K, H W]
    if grouped:
        weights = weights.repeat_interleave(x.shape[1] // scores.shape[1], 1)  # [B, C, H W]
        return (weights * x.flatten(2)).sum(2)
    return weights @ x.flatten(2).transpose(1, 2)


def gated_broadcast_add(
    y: Tensor, u: Tensor, gate_scores: Tensor, scale: Tensor, shift: Tensor, *, stride: int = 1
) -> Tensor:
    """y + scale * sum over k of sigmoid(gate_scores_k) * u_k + shift: K vectors per image, spread by K gates.

    Args:
        y: [B, O, H, W], floating point.
        u: [B, O, K].
        gate_scores: [B, K, H', W'] with ceil(H' / stride) = H, ceil(W' / stride) = W.
        scale, shift: [O].
        stride: the gates are sampled at every stride-th position.

    Returns:
        [B, O, H, W].
    """
    gate = torch.sigmoid(gate_scores[:, :, ::stride, ::stride])
    spread = torch.einsum("bok,bkhw->bohw", u.to(y.dtype), gate)
    return y + scale.to(y.dtype)[:, None, None] * spread + shift.to(y.dtype)[:, None, None]


def depthwise_conv2d(x: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """Depthwise convolution with padding K // 2.

    Args:
        x: [B, C, H, W], floating point.
        weight: [C, 1, K, K], K odd.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)].
    """
    return conv2d(x, weight.to(x.dtype), stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])


def depthwise_local_global(
    x: Tensor, weight: Tensor, context: Tensor, gate_scores: Tensor, centre: Tensor, shift: Tensor, *, stride: int = 1
) -> Tensor:
    """Depthwise convolution, a scaled copy of its input, and each channel's context spread by the gate of its head.

    y_c(p) = (weight_c * x_c)(p) + centre_c x_c(p) + sigmoid(gate_scores_h(c))(p) context_c + shift_c

    Args:
        x: [B, C, H, W], floating point.
        weight: [C, 1, K, K], K odd; padding K // 2.
        context: [B, C].
        gate_scores: [B, heads, H, W]; channel c has head h(c) = c // (C / heads).
        centre, shift: [C].
        stride: of the convolution; x and the gates are sampled where its centre tap stands.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)].
    """
    sampled = x[:, :, ::stride, ::stride]
    gate = torch.sigmoid(gate_scores[:, :, ::stride, ::stride])
    gate = gate.repeat_interleave(x.shape[1] // gate_scores.shape[1], 1)
    y = depthwise_conv2d(x, weight, stride=stride) + centre.to(x.dtype)[:, None, None] * sampled
    return y + gate * context.to(x.dtype)[:, :, None, None] + shift.to(x.dtype)[:, None, None]


def semantic_attention(features: Tensor, words: Tensor, v: Tensor) -> Tensor:
    """How much each position has to do with each word: the sum over d of v_d * tanh(features_d * words_d).

    Args:
        features: [B, P, D], floating point.
        words: [C, D].
        v: [D].

    Returns:
        [B, C, P].
    """
    products = features[:, None] * words.to(features.dtype)[:, None]  # [B, C, P, D]
    return torch.tanh(products) @ v.to(features.dtype)
