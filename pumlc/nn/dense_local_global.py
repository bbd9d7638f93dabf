"""The local-global convolution of a dense kernel as one operator, forward and backward.

Three parts of it read x, and two the projection. Autograd would make a gradient for each of them, and add them up in
passes of their own; here there is one of each, to which the parts add theirs in place.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

import pumlc.ops  # noqa: F401  (registers torch.ops.pumlc)
from pumlc.nn.folded_conv import (
    POINT,
    Geometry,
    centre_tap,
    folded_conv2d,
    input_gradient,
    tap_gradient,
    weight_gradient,
)
from pumlc.nn.global_branch import (
    BranchParameters,
    Scores,
    add_reduction_input_gradient,
    context_backward,
    context_of,
    scores_backward,
    scores_of,
)


class DenseLocalGlobal(torch.autograd.Function):
    """conv(x) + s (W_p (x + V) + b_p) + t, with W_p in the centre tap of the convolution."""

    @staticmethod
    def forward(
        ctx, geometry: Geometry, x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, *branch: Tensor
    ) -> Tensor:
        """x [B, C, H, W] and weight [O, C, K, L] of one dtype, s and t [O], BranchParameters -> [B, O, H / s, W / s].

        x may lie in memory in any way, the result is channels_last.
        """
        branch = BranchParameters(*branch)
        with _without_autocast(x):
            scores = scores_of(x, branch)
            pooled, means, statistics = torch.ops.pumlc.attention_pool(x, scores.aggregate, False)
            means = pooled if pooled.dtype == means.dtype else means  # pooled before it was rounded
            u, context = context_of(means, branch)
            y = folded_conv2d(x, weight, branch.tap(scale, x.dtype), geometry)
            gate, stride = sampled(scores.gate, geometry.stride)
            shift = scale * branch.projection_bias + shift
            y = torch.ops.pumlc.gated_broadcast_add(y, context, gate, scale, shift, stride)
        ctx.geometry = geometry
        # not the product of projection and scale, which is as large as some maps, and no biases that do not enter
        read = branch._replace(reduction_bias=None, aggregate_bias=None, broadcast_bias=None, value_bias=None)
        ctx.save_for_backward(x, weight, scale, means, statistics, u, context, *scores, *read)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
            raise RuntimeError(
                "LocalGlobalConv2d has no second derivative while its BatchNorm is on running statistics."
            )
        x, weight, scale, means, statistics, u, context, *others = ctx.saved_tensors
        scores, branch = Scores(*others[: len(Scores._fields)]), BranchParameters(*others[len(Scores._fields) :])
        _, for_x, for_weight, for_scale, _, *for_branch = ctx.needs_input_grad
        wanted = BranchParameters(*for_branch)
        with _without_autocast(x):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            of_context, of_gate, of_scale, of_shift = _gated_add_backward(
                gradient, context, scores.gate, scale, ctx.geometry.stride
            )
            # Input gradient first: its folded copy of the weight is gone before the gradient of the weight, which takes
            # the most memory. All else is made later.
            of_x = None
            if for_x:
                of_x = input_gradient(gradient, x, weight, branch.tap(scale, x.dtype), ctx.geometry)
                of_x = of_x.contiguous(memory_format=torch.channels_last)
            of_weight = weight_gradient(gradient, x, weight, ctx.geometry) if for_weight else None
            of_projection = None
            if wanted.projection or for_scale:
                of_tap = centre_tap(of_weight) if for_weight else tap_gradient(gradient, x, weight, ctx.geometry)
                of_tap = of_tap.to(scale.dtype)
                if wanted.projection:
                    of_projection = scale[:, None] * of_tap
                of_scale = of_scale + branch.projection_bias * of_shift + (branch.projection.flatten(1) * of_tap).sum(1)
            found = dict.fromkeys(BranchParameters._fields)
            found["projection_bias"] = scale * of_shift
            if for_x or any(wanted):
                of_pooled, of_values = context_backward(of_context, means, u, branch, of_projection)
                of_aggregate = _pool_backward(of_x, of_pooled.to(x.dtype), x, scores.aggregate, means, statistics)
                of_reduced, of_scores = scores_backward(of_aggregate, of_gate, scores, branch)
                found |= of_values | of_scores
                found["reduction_bias"] = of_reduced.sum((0, 2, 3))
                if for_x:
                    add_reduction_input_gradient(of_x, of_reduced, branch)
                if wanted.reduction:
                    found["reduction"] = weight_gradient(of_reduced, x, branch.reduction.to(x.dtype), POINT)
            if of_projection is not None:
                found["projection"] = of_projection.view(branch.projection.shape)
        return None, of_x, of_weight, of_scale, of_shift, *(found[name] for name in BranchParameters._fields)


def sampled(gate: Tensor, stride: tuple[int, int]) -> tuple[Tensor, int]:
    """gate [B, K, H, W] and the step between its positions that stand under outputs of a convolution."""
    rows, columns = stride
    return (gate, rows) if rows == columns else (gate[:, :, ::rows, ::columns], 1)


def _gated_add_backward(
    gradient: Tensor, context: Tensor, gate: Tensor, scale: Tensor, stride: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the context [B, O, K], of all gate scores [B, K, H, W], of s and of t [O]."""
    seen, step = sampled(gate, stride)
    of_context, of_gate, of_scale, of_shift = torch.ops.pumlc.gated_broadcast_add_backward(
        gradient, context, seen, scale, step
    )
    if seen is not gate:
        of_seen, of_gate = of_gate, torch.zeros_like(gate)
        sampled(of_gate, stride)[0].copy_(of_seen)
    return of_context, of_gate, of_scale, of_shift


def _pool_backward(
    x_gradient: Tensor | None, gradient: Tensor, x: Tensor, scores: Tensor, means: Tensor, statistics: Tensor
) -> Tensor:
    """Gradient of pooled [B, K, C] -> of the scores [B, K, H, W]; that of x is added to x_gradient, where wanted."""
    if x_gradient is None:
        return torch.ops.pumlc.attention_pool_backward(gradient, x, scores, means, statistics, False)[1]
    return torch.ops.pumlc.attention_pool_backward_(x_gradient, gradient, x, scores, means, statistics, False)


def _without_autocast(x: Tensor) -> contextlib.AbstractContextManager:
    """Every dtype is chosen here, in backward too, where the caller may or may not have autocast on."""
    if x.device.type == "meta":  # which autocast does not know
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)
