"""A convolution with a 1 x 1 convolution folded into its centre tap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Pair = tuple[int, int]

POSITIONS_PER_TAP = 128
"""So many multiply-adds take about as long as copying one number of the weight into fresh memory."""


class FoldedConvolution(torch.autograd.Function):
    """conv(x, weight) + scale * conv_1x1(x, projection), stride and all, as one convolution.

    Where the centre tap of an odd kernel stands on the positions that the 1 x 1 convolution samples (padding is half
    the kernel), the sum of both is the convolution whose centre tap is the sum of the taps. The gradient of the
    projection is then that of the centre tap; where the weight itself is frozen, it is computed alone, as the weight
    gradient of a 1 x 1 convolution.

    Folding copies the weight in every pass. Where the maps have few positions and no stride samples them, that costs
    more than a 1 x 1 convolution on them: there the two are computed side by side.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        projection: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        """x [B, C, H, W], weight [O, C, K, L], projection [O, C], scale [O], bias [O] -> [B, O, H / s, W / s].

        x, weight and bias are of one dtype; the product of scale and projection is rounded to it.
        """
        ctx.save_for_backward(x, weight, projection, scale)  # not their product: it is as large as some maps
        ctx.convolution = stride, padding, dilation
        ctx.bias_shape = None if bias is None else bias.shape
        ctx.folds = _folding_pays(x, weight, stride)
        tap = _tap(projection, scale, x.dtype)
        if ctx.folds:
            return conv2d(x, fold(weight, tap), bias, stride, padding, dilation)
        y = conv2d(x, weight, bias, stride, padding, dilation)
        return y.add_(conv2d(x, tap[:, :, None, None]))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight, projection, scale = ctx.saved_tensors
        stride, padding, dilation = ctx.convolution
        for_x, for_weight, for_projection, for_scale, for_bias = ctx.needs_input_grad[:5]

        def gradients(weight: Tensor, padding: Pair, dilation: Pair, mask: list[bool]):
            bias = list(ctx.bias_shape) if mask[2] else None
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, bias, stride, padding, dilation, False, [0, 0], 1, mask
            )

        def gradient_of_x() -> Tensor:
            tap = _tap(projection, scale, x.dtype)
            if ctx.folds:
                return gradients(fold(weight, tap), padding, dilation, [True, False, False])[0]
            whole = gradients(weight, padding, dilation, [True, False, False])[0]
            return whole.add_(conv2d(gradient, tap.mT[:, :, None, None]))

        x_gradient = weight_gradient = bias_gradient = projection_gradient = scale_gradient = None
        if for_x:  # its copies of weights are gone before the other gradients are made
            x_gradient = gradient_of_x()
        if for_weight or for_bias:  # the values of the weight do not enter these
            _, weight_gradient, bias_gradient = gradients(weight, padding, dilation, [False, for_weight, for_bias])
        if for_projection or for_scale:
            if for_weight:
                height, width = (size // 2 for size in weight.shape[2:])
                tap_gradient = weight_gradient[:, :, height, width]
            else:
                tap = weight[:, :, :1, :1]
                tap_gradient = gradients(tap, (0, 0), (1, 1), [False, True, False])[1][:, :, 0, 0]
            tap_gradient = tap_gradient.to(projection.dtype)
            projection_gradient = scale[:, None] * tap_gradient
            scale_gradient = (projection * tap_gradient).sum(1)
        return x_gradient, weight_gradient, projection_gradient, scale_gradient, bias_gradient, None, None, None


def _tap(projection: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (scale[:, None] * projection).to(dtype)


def fold(weight: Tensor, projection: Tensor) -> Tensor:
    """A copy of weight [O, C, K, L] with projection [O, C] added to its centre tap."""
    folded = weight.clone()
    height, width = (size // 2 for size in weight.shape[2:])
    folded[:, :, height, width] += projection
    return folded


def _folding_pays(x: Tensor, weight: Tensor, stride: Pair) -> bool:
    """Whether a copy of weight [O, C, K, L] costs less than a 1 x 1 convolution of x [B, C, H, W]."""
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    return max(stride) > 1 or positions > POSITIONS_PER_TAP * weight.shape[2] * weight.shape[3]
