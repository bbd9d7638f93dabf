"""The scores and the context of the global branch, and their gradients by hand. Symbols are those of local_global.py.

Maps are computed in the dtype of x, vectors of an image in that of the parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear


class BranchParameters(NamedTuple):
    """The parameters of the global branch, but for those of its norm; or their gradients."""

    reduction: Tensor
    """W_r [R, C, 1, 1]"""
    reduction_bias: Tensor
    """[R]"""
    aggregate: Tensor
    """W_a [K, 2 R, 1, 1], by L and by its mean"""
    aggregate_bias: Tensor
    """[K]"""
    broadcast: Tensor
    """W_b [K, 2 R, 1, 1], likewise"""
    broadcast_bias: Tensor
    """[K]"""
    value: Tensor
    """W_v [C, C, 1, 1]"""
    value_bias: Tensor
    """[C]"""
    projection: Tensor
    """W_p [O, C, 1, 1]"""
    projection_bias: Tensor
    """[O]"""

    @property
    def heads(self) -> int:
        return self.aggregate.shape[0]

    def values_by_head(self) -> Tensor:
        """A view [K, C / K, C]"""
        return self.value.unflatten(0, (self.heads, -1)).flatten(2)

    def projection_by_head(self) -> Tensor:
        """A view [K, O, C / K]"""
        return by_head(self.projection.flatten(1), self.heads)

    def tap(self, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """s W_p [O, C], scale [O]: what goes into the centre tap of the convolution."""
        return (scale[:, None] * self.projection.flatten(1)).to(dtype)

    def score_weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """By which L gives both scores [2 K, R], and by which its mean gives those of the gates [K, R].

        What the mean of L adds to the scores of A is constant over the positions: the softmax does not see it.
        """
        width = self.reduction.shape[0]
        weight = torch.cat([self.aggregate[:, :width], self.broadcast[:, :width]]).flatten(1)
        return weight.to(dtype), self.broadcast[:, width:].flatten(1).to(dtype)


class Scores(NamedTuple):
    """Of a map [B, C, H, W], in its dtype."""

    local: Tensor
    """L [B, R, H, W]"""
    mean: Tensor
    """Of L over the positions [B, R]"""
    aggregate: Tensor
    """Of the softmax A [B, K, H, W]"""
    gate: Tensor
    """Of the sigmoid B [B, K, H, W]"""


def by_head(projection: Tensor, heads: int) -> Tensor:
    """[O, C] -> a view [K, O, C / K]"""
    return projection.unflatten(1, (heads, -1)).transpose(0, 1)


def scores_of(x: Tensor, branch: BranchParameters) -> Scores:
    """x [B, C, H, W], any floating-point dtype."""
    local = conv2d(x, branch.reduction.to(x.dtype), branch.reduction_bias.to(x.dtype)).relu_()
    mean = local.mean((2, 3))
    weight, weight_of_mean = branch.score_weights(x.dtype)
    # the softmax does not see b_a either: it is added so that its gradient is what autograd makes it, 0 up to rounding
    bias = torch.cat([branch.aggregate_bias, branch.broadcast_bias]).to(x.dtype)
    # a product of matrices: the weight gradient of so small a 1 x 1 convolution is oneDNN's slowest
    both = linear(local.permute(0, 2, 3, 1), weight, bias)  # [B, H, W, 2 K]
    both[..., branch.heads :] += linear(mean, weight_of_mean)[:, None, None]
    return Scores(local, mean, *both.permute(0, 3, 1, 2).split(branch.heads, 1))


def scores_backward(
    aggregate_gradient: Tensor, gate_gradient: Tensor, scores: Scores, branch: BranchParameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of both scores, [B, K, H, W] each -> of W_r x + b_r [B, R, H, W], and of W_a, b_a, W_b and b_b."""
    images, width, height, columns = scores.local.shape
    weight, weight_of_mean = branch.score_weights(scores.local.dtype)
    by_aggregate, by_gate = _positions(aggregate_gradient), _positions(gate_gradient)  # [B H W, K]
    by_image = gate_gradient.sum((2, 3))  # [B, K]
    for_aggregate, for_gate = weight.split(branch.heads)
    local_gradient = (by_gate @ for_gate).addmm_(by_aggregate, for_aggregate)
    by_mean = by_image @ weight_of_mean / (height * columns)
    local_gradient.view(images, height * columns, width).add_(by_mean[:, None])
    local = _positions(scores.local)
    torch.ops.aten.threshold_backward.grad_input(local_gradient, local, 0, grad_input=local_gradient)
    by_local = by_aggregate.mT @ local
    found = {
        "aggregate": torch.cat([by_local, torch.zeros_like(by_local)], 1)[:, :, None, None],
        "aggregate_bias": by_aggregate.sum(0),
        "broadcast": torch.cat([by_gate.mT @ local, by_image.mT @ scores.mean], 1)[:, :, None, None],
        "broadcast_bias": by_image.sum(0),
    }
    return local_gradient.view(images, height, columns, width).permute(0, 3, 1, 2), found


def add_reduction_input_gradient(x_gradient: Tensor, gradient: Tensor, branch: BranchParameters) -> None:
    """Gradient of W_r x + b_r [B, R, H, W] -> that of x is added to x_gradient [B, C, H, W], channels_last."""
    _positions(x_gradient).addmm_(_positions(gradient), branch.reduction.flatten(1).to(gradient.dtype))


def context_of(pooled: Tensor, branch: BranchParameters) -> tuple[Tensor, Tensor]:
    """pooled [B, K, C] -> u [K, B, C / K] and the context [B, O, K]."""
    pooled = pooled.to(branch.value.dtype).transpose(0, 1)
    u = pooled @ branch.values_by_head().mT + branch.value_bias.unflatten(0, (branch.heads, 1, -1))
    return u, (u @ branch.projection_by_head().mT).permute(1, 2, 0)


def context_backward(
    gradient: Tensor, pooled: Tensor, u: Tensor, branch: BranchParameters, projection_gradient: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradient of the context [B, O, K] -> of pooled [B, K, C], of W_v and of b_v.

    That of W_p is added to projection_gradient [O, C] where there is one.
    """
    dtype = branch.value.dtype
    by_output = gradient.to(dtype).permute(2, 0, 1)  # [K, B, O]
    by_u = by_output @ branch.projection_by_head()  # [K, B, C / K]
    value = by_u.mT @ pooled.to(dtype).transpose(0, 1)  # [K, C / K, C]
    if projection_gradient is not None:
        by_head(projection_gradient, branch.heads).add_(by_output.mT @ u)
    found = {"value": value.view(branch.value.shape), "value_bias": by_u.sum(1).flatten()}
    return (by_u @ branch.values_by_head()).transpose(0, 1), found


def _positions(map: Tensor) -> Tensor:
    """[B, C, H, W] -> [B H W, C], the same memory where the map is channels_last."""
    return map.permute(0, 2, 3, 1).reshape(-1, map.shape[1])
