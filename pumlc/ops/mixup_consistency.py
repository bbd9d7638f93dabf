"""The mixup regulariser of PU-MLC (arXiv 2306.16016): one answer to a mixture of images, and two answers mixed."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)
from pumlc.ops._labels import as_int8
from pumlc.ops.reference import EPSILON


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
    r"""How far the model's answer to mixed images is from the mixture of its answers.

    The batch is paired with itself: with h = ceil(B / 2), pair i has the rows permutation[i] of the first half,
    ``[:h]``, and B - h + i of the second, ``[B - h:]``. For every class, with t = 1 where a row is labelled positive
    and sigmoid(z) + eps elsewhere::

        target_i = mix t[permutation[i]] + (1 - mix) t[B - h + i]
        loss = sum over pairs and classes of (log(target + eps) - log(sigmoid(mixed logits) + eps)) ** 2 / h

    Equivalent to :func:`pumlc.ops.reference.mixup_consistency`, in one kernel launch that also makes both gradients;
    backward multiplies those by the upstream scalar. For an even B the halves are those of the published code, which
    leaves out the middle row of an odd batch: here it stands in both halves, so that no row is lost. The gradient
    flows through the target too, as published.

    Logarithms are exact near 0 and near 1 in every dtype, and finite for any logits but NaN. The result does not depend
    on the number of threads; the same input gives the same bits.

    Args:
        logits: [B, C], float64, float32, bfloat16 or float16, any strides. B at least 2, C at least 1.
        labels: [B, C], int8 or bool without a copy, other dtypes through one comparison. Above 0 is positive.
        mixed_logits: [h, C], of the dtype of logits, any strides: the model's answer to
            ``mix * images[:h][permutation] + (1 - mix) * images[B - h:]``.
        permutation: [h] int64: the numbers 0 to h - 1, each once. The device is not asked whether it is one: with a
            number outside the loss is NaN, and of a row whose number is missing the gradient is undefined.
        mix: the share of the first half, from 0 to 1; a scalar tensor of any floating dtype on the device of logits (a
            CUDA graph reads it anew at every replay), or a number.
        eps: added to probabilities, 1e-30 to 0.01.
        detach_target: hold the target constant: no gradient by ``logits``.

    Returns:
        Scalar, float64 for float64 logits and float32 otherwise.

    Raises:
        ValueError: shapes or devices do not fit, one row alone, or an eps outside its bounds.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    if not isinstance(mix, Tensor):
        mix = torch.full((), mix, dtype=_accumulation_type(logits), device=logits.device)
    with_gradient = torch.is_grad_enabled() and logits.requires_grad and not detach_target
    with_mixed_gradient = torch.is_grad_enabled() and mixed_logits.requires_grad
    return torch.ops.pumlc.mixup_consistency(
        logits, as_int8(labels), mixed_logits, permutation, mix, eps, with_gradient, with_mixed_gradient
    )[0]


def _accumulation_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


@torch.library.register_fake("pumlc::mixup_consistency")
def _(logits, labels, mixed_logits, permutation, mix, eps, with_gradient, with_mixed_gradient):
    rows, classes = logits.shape
    return (
        logits.new_empty((), dtype=_accumulation_type(logits)),
        logits.new_empty((rows if with_gradient else 0, classes)),
        logits.new_empty(((rows + 1) // 2 if with_mixed_gradient else 0, classes)),
    )


def _save(ctx, inputs, output) -> None:
    ctx.wanted = inputs[-2:]  # by logits, by mixed logits
    _, gradient, mixed_gradient = output
    ctx.mark_non_differentiable(gradient, mixed_gradient)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient, mixed_gradient)


def _backward(ctx, upstream, _gradient, _mixed_gradient):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "mixup_consistency has no second derivative: its gradients are made in the forward pass. Use "
            "pumlc.ops.reference.mixup_consistency where you differentiate twice."
        )
    gradients = (None, None)
    if upstream is not None:
        gradients = (
            torch.ops.pumlc.pu_loss_backward(gradient, upstream) if wanted else None
            for gradient, wanted in zip(ctx.saved_tensors, ctx.wanted, strict=True)
        )
    by_logits, by_mixed_logits = gradients
    return by_logits, None, by_mixed_logits, None, None, None, None, None


torch.library.register_autograd("pumlc::mixup_consistency", _backward, setup_context=_save)
