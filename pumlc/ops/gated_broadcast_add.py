"""Gated broadcast-add: vectors of an image added at every position, each as much as its gate is open there."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)


def gated_broadcast_add(
    y: Tensor, u: Tensor, gate_scores: Tensor, scale: Tensor, shift: Tensor, *, stride: int = 1
) -> Tensor:
    r"""K vectors per image, spread over the positions of a feature map by K gates.

    For each position p and channel o::

        out_po = y_po + scale_o * sum over k of sigmoid(gate_scores_k(p)) u_ok + shift_o

    Equivalent to :func:`pumlc.ops.reference.gated_broadcast_add`, in one pass over y; backward reads the upstream
    gradient once, which is also the gradient of y (the global branch of the local-global convolution, PU-MLC, arXiv
    2306.16016).

    The result does not depend on the number of threads; the same input gives the same bits on the same device.

    Args:
        y: [B, O, H, W], float64, float32, bfloat16 or float16. Read as it lies where it is channels_last; otherwise
            through a channels_last copy. B may be 0.
        u: [B, O, K], any of these dtypes.
        gate_scores: [B, K, H', W'], of the dtype of y, any strides, with ceil(H' / stride) = H, ceil(W' / stride) = W.
            Multiples of 8 heads are fastest.
        scale, shift: [O], any of these dtypes.
        stride: the gates are sampled at every stride-th row and column; elsewhere their gradient is 0.

    Returns:
        [B, O, H, W] of the dtype of y, channels_last; sums are taken in float32, in float64 for float64. Not finite
        where the input is not.

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    return torch.ops.pumlc.gated_broadcast_add(y, u, gate_scores, scale, shift, stride)


@torch.library.register_fake("pumlc::gated_broadcast_add")
def _(y, u, gate_scores, scale, shift, stride):
    return torch.empty(y.shape, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)


@torch.library.register_fake("pumlc::gated_broadcast_add_backward")
def _(upstream, u, gate_scores, scale, stride):
    dtype = torch.float64 if upstream.dtype == torch.float64 else torch.float32
    gate_gradient = torch.empty(
        gate_scores.shape, dtype=gate_scores.dtype, device=gate_scores.device, memory_format=torch.channels_last
    )
    vectors = (upstream.new_empty(scale.shape, dtype=dtype) for _ in range(2))
    return upstream.new_empty(u.shape, dtype=dtype), gate_gradient, *vectors


def _save(ctx, inputs, output) -> None:
    _, u, gate_scores, scale, shift, ctx.stride = inputs
    ctx.shift_dtype = shift.dtype
    ctx.save_for_backward(u, gate_scores, scale)
    ctx.set_materialize_grads(False)


def _backward(ctx, upstream):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "gated_broadcast_add has no second derivative. Use pumlc.ops.reference.gated_broadcast_add where you "
            "differentiate twice."
        )
    if upstream is None:
        return None, None, None, None, None, None
    u, gate_scores, scale = ctx.saved_tensors
    du, dgate, dscale, dshift = torch.ops.pumlc.gated_broadcast_add_backward(
        upstream, u, gate_scores, scale, ctx.stride
    )
    return upstream, du.to(u.dtype), dgate, dscale.to(scale.dtype), dshift.to(ctx.shift_dtype), None


torch.library.register_autograd("pumlc::gated_broadcast_add", _backward, setup_context=_save)
