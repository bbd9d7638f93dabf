"""Semantic attention: how much each position of an image has to do with each word."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)


def semantic_attention(features: Tensor, words: Tensor, v: Tensor) -> Tensor:
    r"""A score for every class and position, from the features of the position and the word of the class.

    For each image, class c and position p::

        out_cp = sum over d of v_d tanh(features_pd words_cd)

    Equivalent to :func:`pumlc.ops.reference.semantic_attention`, without its tensor of B C P D products, in backward
    neither: that takes the hyperbolic tangents once more, and all three gradients from each of them (the semantic
    decoupling of the recogniser, PU-MLC, arXiv 2306.16016, whose two last linear layers are one vector here).

    The result does not depend on the number of threads; the same input gives the same bits on the same device.

    Args:
        features: [B, P, D], float64, float32, bfloat16 or float16. Read as it lies where it is contiguous; otherwise
            through a copy. B may be 0.
        words: [C, D], any of these dtypes.
        v: [D], any of these dtypes.

    Returns:
        [B, C, P] of the dtype of features; products and sums are taken in float32, in float64 for float64. Not finite
        where the products are NaN or v is not finite; a product of +-inf has the tanh +-1.

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    return torch.ops.pumlc.semantic_attention(features, words, v)


@torch.library.register_fake("pumlc::semantic_attention")
def _(features, words, v):
    return features.new_empty((features.shape[0], words.shape[0], features.shape[1]))


@torch.library.register_fake("pumlc::semantic_attention_backward")
def _(upstream, features, words, v):
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    parameters = (features.new_empty(tensor.shape, dtype=dtype) for tensor in (words, v))
    return features.new_empty(features.shape), *parameters


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _backward(ctx, upstream):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "semantic_attention has no second derivative. Use pumlc.ops.reference.semantic_attention where you "
            "differentiate twice."
        )
    if upstream is None:
        return None, None, None
    features, words, v = ctx.saved_tensors
    dfeatures, dwords, dv = torch.ops.pumlc.semantic_attention_backward(upstream, features, words, v)
    return dfeatures, dwords.to(words.dtype), dv.to(v.dtype)


torch.library.register_autograd("pumlc::semantic_attention", _backward, setup_context=_save)
