"""A convolution with a 1 x 1 convolution folded into its centre tap."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Pair = tuple[int, int]


class FoldedConvolution(torch.autograd.Function):
    """conv(x, weight) + conv_1x1(x, projection), stride and all, as one convolution.

    Where the centre tap of an odd kernel stands on the positions that the 1 x 1 convolution samples (padding is half
    the kernel), the sum of both is the convolution whose centre tap is the sum of the taps. The gradient of the
    projection is then that of the centre tap; where the weight itself is frozen, it is computed alone, as the weight
    gradient of a 1 x 1 convolution.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        projection: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
    ) -> Tensor:
        """x [B, C, H, W], weight [O, C, K, L], projection [O, C], bias [O] -> [B, O, H / stride, W / stride]."""
        ctx.save_for_backward(x, weight, projection)
        ctx.convolution = stride, padding, dilation
        ctx.bias_shape = None if bias is None else bias.shape
        return conv2d(x, fold(weight, projection), bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight, projection = ctx.saved_tensors
        stride, padding, dilation = ctx.convolution
        for_x, for_weight, for_projection, for_bias = ctx.needs_input_grad[:4]

        def gradients(weight: Tensor, padding: Pair, dilation: Pair, mask: list[bool]):
            bias = list(ctx.bias_shape) if mask[2] else None
            return torch.ops.aten.convolution_backward(
                gradient, x, weight, bias, stride, padding, dilation, False, [0, 0], 1, mask
            )

        x_gradient = weight_gradient = bias_gradient = projection_gradient = None
        if for_x:  # folded again, and gone before the other gradients are made: at 14 x 14 it is larger than the maps
            x_gradient, _, _ = gradients(fold(weight, projection), padding, dilation, [True, False, False])
        if for_weight or for_bias:  # the values of the weight do not enter these
            _, weight_gradient, bias_gradient = gradients(weight, padding, dilation, [False, for_weight, for_bias])
        if for_projection and for_weight:
            height, width = (size // 2 for size in weight.shape[2:])
            projection_gradient = weight_gradient[:, :, height, width]
        elif for_projection:
            tap = projection[:, :, None, None]
            projection_gradient = gradients(tap, (0, 0), (1, 1), [False, True, False])[1][:, :, 0, 0]
        return x_gradient, weight_gradient, projection_gradient, bias_gradient, None, None, None


def fold(weight: Tensor, projection: Tensor) -> Tensor:
    """A copy of weight [O, C, K, L] with projection [O, C] added to its centre tap."""
    folded = weight.clone()
    height, width = (size // 2 for size in weight.shape[2:])
    folded[:, :, height, width] += projection
    return folded
