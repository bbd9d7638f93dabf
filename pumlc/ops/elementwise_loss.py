"""The losses that users of incomplete labels compare, each a sum of one term per image and class."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)
from pumlc.ops._labels import as_signs
from pumlc.ops.loss_kinds import LOSS_KINDS, loss_parameters


def elementwise_loss(logits: Tensor, labels: Tensor, kind: str = "an", **parameters: float) -> Tensor:
    r"""One of the losses of :data:`pumlc.ops.LOSS_KINDS`, which holds their parameters, defaults and sources.

    With p = sigmoid(z), and what each label costs::

        kind     positive                                   unobserved
        an       -log p                                     -log(1 - p)
        ignore   -log p                                     0
        wan      -log p                                     -log(1 - p) / (C - 1)
        ls       -(1 - e) log p - e log(1 - p)              -(1 - e) log(1 - p) - e log p;  e = smoothing
        focal    -(1 - p)**gamma log p                      -p**gamma log(1 - p)
        asl      -(1 - p)**gamma_pos log p                  -r**gamma_neg log(1 - r);  r = max(p - clip, 0)
        hill     as focal, p = sigmoid(z - margin)          (lamb - p) p**2
        splc     as focal, p = sigmoid(z - margin)          as focal; with correct=1 and p > tau as focal of a positive
        em       -log p                                     alpha (p log p + (1 - p) log(1 - p))
        gr       -log p                                     v (k (1 - p**q2) / q2 + (1 - k) (1 - (1 - p)**q3) / q3);
                                                            k = sigmoid(w p + b), v = exp(-((p - mu) / sigma)**2 / 2)

    A known negative is never taken for unobserved: it costs -log(1 - p) in ignore, wan, em and gr, and in the others
    what they take an unobserved label for, a negative, without the correction of splc. asl, hill and splc are the sum
    of the terms, the others their mean, as published. No gradient flows through k and v of gr; it does through every
    other weight, that of asl too, which its published code can also hold constant. w, mu and sigma of gr move over the
    epochs as published; the defaults are where they begin.

    Equivalent to :func:`pumlc.ops.reference_losses.elementwise_loss`, in one kernel launch that also makes the
    gradient; backward multiplies that by the upstream scalar. Powers and logarithms are exact at both ends, and finite
    for any finite logits in every dtype, where published codes clamp or give NaN. The result does not depend on the
    number of threads; the same input gives the same bits.

    Args:
        logits: [B, C], float64, float32, bfloat16 or float16, any strides. B and C at least 1; for wan, C at least 2.
        labels: [B, C], int8 or bool without a copy, other dtypes through their sign. Above 0 is positive, 0
            unobserved, below a known negative.
        kind: a key of LOSS_KINDS.
        **parameters: of that kind, by name.

    Returns:
        Scalar, float64 for float64 logits and float32 otherwise. Not finite where the logits are not.

    Raises:
        ValueError: no such kind or parameter, a value outside its range; shapes or devices differ; no row or class.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    values = list(loss_parameters(kind, parameters).values())
    with_gradient = logits.requires_grad and torch.is_grad_enabled()
    mean = LOSS_KINDS[kind].mean
    return torch.ops.pumlc.elementwise_loss(logits, as_signs(labels), kind, values, mean, with_gradient)[0]


@torch.library.register_fake("pumlc::elementwise_loss")
def _(logits, labels, kind, parameters, mean, with_gradient):
    rows, classes = logits.shape
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return logits.new_empty((), dtype=dtype), logits.new_empty((rows if with_gradient else 0, classes))


def _save(ctx, inputs, output) -> None:
    _, gradient = output
    ctx.mark_non_differentiable(gradient)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient)


def _backward(ctx, upstream, _gradient):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "elementwise_loss has no second derivative: its gradient is made in the forward pass. Use "
            "pumlc.ops.reference_losses.elementwise_loss where you differentiate twice."
        )
    (gradient,) = ctx.saved_tensors
    by_logits = None if upstream is None else torch.ops.pumlc.pu_loss_backward(gradient, upstream)
    return by_logits, None, None, None, None, None


torch.library.register_autograd("pumlc::elementwise_loss", _backward, setup_context=_save)
