"""Attention pooling: means of the positions of a feature map, weighted by a softmax per head."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)


def attention_pool(x: Tensor, scores: Tensor, *, grouped: bool = False) -> Tensor:
    r"""Attention-weighted means of the positions of a feature map.

    For each head k, over the positions p of an image::

        A_k = softmax over p of scores_k            out_kc = sum over p of A_k(p) x_pc

    Equivalent to :func:`pumlc.ops.reference.attention_pool`, with one pass over x, and one in backward that reads x
    once and writes both gradients (the global branch of the local-global convolution, PU-MLC, arXiv 2306.16016).

    The result does not depend on the number of threads; the same input gives the same bits on the same device.

    Args:
        x: [B, C, H, W], float64, float32, bfloat16 or float16. Read as it lies where it is channels_last; otherwise
            through a channels_last copy. B may be 0.
        scores: [B, K, H, W], of the dtype of x, any strides. K heads; multiples of 8 are fastest.
        grouped: each channel under its own head alone, channel c under head c // (C / K). K divides C.

    Returns:
        [B, K, C], or [B, C] where grouped, of the dtype of x; sums are taken in float32, in float64 for float64. Not
        finite where x or the scores are not (scores of -inf alone are weights of 0).

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    return torch.ops.pumlc.attention_pool(x, scores, grouped)[0]


def _accumulation_type(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


@torch.library.register_fake("pumlc::attention_pool")
def _(x, scores, grouped):
    images, channels = x.shape[:2]
    heads = scores.shape[1]
    dtype = _accumulation_type(x)
    shape = (images, channels) if grouped else (images, heads, channels)
    means = x.new_empty((0,) if dtype == x.dtype else shape, dtype=dtype)
    return x.new_empty(shape), means, x.new_empty((images, 2, heads), dtype=dtype)


@torch.library.register_fake("pumlc::attention_pool_backward")
def _(upstream, x, scores, means, statistics, grouped):
    last = torch.channels_last
    return tuple(torch.empty(t.shape, dtype=t.dtype, device=t.device, memory_format=last) for t in (x, scores))


@torch.library.register_fake("pumlc::attention_pool_backward_")
def _(x_gradient, upstream, x, scores, means, statistics, grouped):
    return torch.empty(scores.shape, dtype=scores.dtype, device=scores.device, memory_format=torch.channels_last)


def _save(ctx, inputs, output) -> None:
    x, scores, ctx.grouped = inputs
    pooled, means, statistics = output
    ctx.save_for_backward(x, scores, pooled if pooled.dtype == means.dtype else means, statistics)
    ctx.mark_non_differentiable(means, statistics)
    ctx.set_materialize_grads(False)


def _backward(ctx, upstream, _means, _statistics):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "attention_pool has no second derivative. Use pumlc.ops.reference.attention_pool where you differentiate "
            "twice."
        )
    if upstream is None:
        return None, None, None
    x, scores, means, statistics = ctx.saved_tensors
    return *torch.ops.pumlc.attention_pool_backward(upstream, x, scores, means, statistics, ctx.grouped), None


torch.library.register_autograd("pumlc::attention_pool", _backward, setup_context=_save)
