"""Depthwise convolution, alone and as the local-global convolution of a depthwise layer."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)


def depthwise_conv2d(x: Tensor, weight: Tensor, *, stride: int = 1) -> Tensor:
    """Depthwise convolution with padding K // 2: ``conv2d(x, weight, None, stride, K // 2, groups=C)``.

    Equivalent to :func:`pumlc.ops.reference.depthwise_conv2d`. Maps are computed in channels_last; others are copied
    to it. Sums are taken in float32 (float64 for float64) with the weight as it is given, not rounded to the dtype of
    x. What needs no gradient costs nothing in backward: with a frozen weight only dx is made. The result does not
    depend on the number of threads; the same input gives the same bits.

    Args:
        x: [B, C, H, W], float64, float32, bfloat16 or float16. B may be 0.
        weight: [C, 1, K, K] with K of 3, 5 or 7, in any of these dtypes.
        stride: 1 or 2.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)] in channels_last, of the dtype of x.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    return torch.ops.pumlc.depthwise(x, weight, None, None, None, None, stride)


def depthwise_local_global(
    x: Tensor, weight: Tensor, context: Tensor, gate_scores: Tensor, centre: Tensor, shift: Tensor, *, stride: int = 1
) -> Tensor:
    """Depthwise convolution, a scaled copy of its input, and each channel's context spread by the gate of its head.

    ::

        y_c(p) = (weight_c * x_c)(p) + centre_c x_c(p) + sigmoid(gate_scores_h(c))(p) context_c + shift_c

    in one pass over x: the centre is added to the centre tap as the weights are read. The depthwise form of the
    local-global convolution (LgConv). Equivalent to :func:`pumlc.ops.reference.depthwise_local_global`; what is said
    at :func:`depthwise_conv2d` of layout, exactness and gradients holds here.

    Args:
        x: [B, C, H, W], float64, float32, bfloat16 or float16. B may be 0.
        weight: [C, 1, K, K] with K of 3, 5 or 7.
        context: [B, C].
        gate_scores: [B, heads, H, W] of the dtype of x, any strides; channel c has head h(c) = c // (C / heads).
        centre, shift: [C]. The parameters and the context may have other dtypes than x.
        stride: 1 or 2; x and the gates are sampled where the centre tap stands.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)] in channels_last, of the dtype of x.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`depthwise_conv2d`.
    """
    return torch.ops.pumlc.depthwise(x, weight, context, gate_scores, centre, shift, stride)


def _output(x: Tensor, stride: int) -> Tensor:
    batch, channels, height, width = x.shape
    size = (batch, channels, (height + stride - 1) // stride, (width + stride - 1) // stride)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@torch.library.register_fake("pumlc::depthwise")
def _(x, weight, context, gate_scores, centre, shift, stride):
    return _output(x, stride)


@torch.library.register_fake("pumlc::depthwise_backward")
def _(dy, x, weight, context, gate_scores, centre, shift, stride, need_dx, need_dweight, need_dglobal):
    def like(tensor: Tensor | None, wanted: bool) -> Tensor:
        if tensor is None or not wanted:
            return (weight if tensor is None else tensor).new_empty(0)
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=x.device)

    def map_like(tensor: Tensor | None, wanted: bool) -> Tensor:
        if tensor is None or not wanted:
            return x.new_empty(0)
        return torch.empty(tensor.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

    return (
        map_like(x, need_dx),
        like(weight, need_dweight),
        like(context, need_dglobal),
        map_like(gate_scores, need_dglobal),
        like(centre, need_dweight),
        like(shift, need_dglobal),
    )


def _setup_context(ctx, inputs, output) -> None:
    *tensors, stride = inputs
    ctx.stride = stride
    ctx.save_for_backward(*tensors)


def _backward(ctx, dy):
    if torch.is_grad_enabled():  # on in a backward pass only with create_graph=True
        raise RuntimeError(
            "the depthwise ops have no second derivative. Use pumlc.ops.reference where you differentiate twice."
        )
    x, weight, context, gate_scores, centre, shift = ctx.saved_tensors
    need = ctx.needs_input_grad
    gradients = torch.ops.pumlc.depthwise_backward(
        *(dy, x, weight, context, gate_scores, centre, shift, ctx.stride),
        *(need[0], need[1] or need[4], need[2] or need[3] or need[5]),
    )
    return *(gradient if needed else None for gradient, needed in zip(gradients, need, strict=False)), None


torch.library.register_autograd("pumlc::depthwise", _backward, setup_context=_setup_context)
