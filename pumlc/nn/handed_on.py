"""The first step of the global branch, which hands its input on so that the gradients of that are added in place.

Where several operators read a map x, autograd lets each make a gradient of x, as large as x, and adds them up. A chain
makes one: each operator returns x beside its result, the next one reads that, and on the way back each adds its own
gradient to the one that it gets. It must be the only one to hold it, so that the last reader of a chain has to be an
operator of ours, whose gradients are fresh tensors, and not a module that hooks may listen to.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d


def can_hand_on(x: Tensor) -> bool:
    """Whether a chain pays: x gets a gradient, and no compiler sees to it that the sum of all is taken at once."""
    return x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def reduction(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """L = ReLU(W_r x + b_r) and its mean: x [B, C, H, W], weight [R, C, 1, 1], bias [R] -> [B, R, H, W], [B, R]."""
    local = conv2d(x, weight, bias).relu_()
    return local, local.mean((2, 3))


class ReductionHandingOn(torch.autograd.Function):
    """:func:`reduction`, and x."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of one dtype -> [B, R, H, W], [B, R] and x."""
        local, mean = reduction(x, weight, bias)
        ctx.save_for_backward(x, weight, local)
        return local, mean, x

    @staticmethod
    @once_differentiable
    def backward(ctx, for_local: Tensor, for_mean: Tensor, x_gradient: Tensor):
        x, weight, local = ctx.saved_tensors
        for_local = for_local + (for_mean / (local.shape[2] * local.shape[3]))[:, :, None, None]
        torch.ops.aten.threshold_backward.grad_input(for_local, local, 0, grad_input=for_local)
        weight_gradient = bias_gradient = None
        wanted = [False, *ctx.needs_input_grad[1:3]]
        if any(wanted):
            _, weight_gradient, bias_gradient = torch.ops.aten.convolution_backward(
                for_local, x, weight, [weight.shape[0]], (1, 1), (0, 0), (1, 1), False, (0, 0), 1, wanted
            )
        x_gradient = x_gradient.contiguous(memory_format=torch.channels_last)
        _positions(x_gradient).addmm_(_positions(for_local), weight.flatten(1))
        return x_gradient, weight_gradient, bias_gradient


def _positions(map: Tensor) -> Tensor:
    """[B, C, H, W] -> [B H W, C], the same memory where the map is channels_last."""
    return map.permute(0, 2, 3, 1).reshape(-1, map.shape[1])
