"""Large losses on unobserved labels, rejected or corrected (Large Loss Matters, arXiv 2206.03740)."""

from __future__ import annotations

import torch
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)

MODES = ("reject", "correct")


def large_loss(logits: Tensor, labels: Tensor, k: int, mode: str) -> tuple[Tensor, Tensor]:
    r"""Binary cross-entropy that does not believe in the negatives with the k largest losses.

    Unobserved labels are taken for negatives first. A network learns what is clean before it memorises what is wrong:
    those whose loss is large are probably positives that nobody labelled. With l the cross-entropy of each entry and
    R the k-th largest l over the unobserved entries, the loss is the mean over all B C entries of::

        l                          where observed (positive or negative), or l < R
        0                          where unobserved and l >= R, mode "reject"
        -log sigmoid(logits)       where unobserved and l >= R, mode "correct": l as of a positive

    All entries whose loss equals R count, so that there may be more than k; where there are fewer than k unobserved
    entries, all of them do; with k = 0 none. Observed labels are never touched. Losses are compared exactly: at
    unobserved entries l = log(1 + exp(z)) grows strictly with the logit z, so the k-th largest logit decides (0 and -0
    are equal), and no rounding makes equal losses of different logits, as that of exp(z) to 0 would.

    Equivalent to :func:`pumlc.ops.reference.large_loss`, without sorting: R is found from histograms of the bits of
    the logits, and one more pass makes loss, mask and gradient; backward multiplies that by the upstream scalar. The
    device is not waited for. The result does not depend on the number of threads; the same input gives the same bits.

    Losses are finite for any finite logits. A NaN is never rejected or corrected, nor counted among the k: it makes
    the loss and its own entry of the gradient NaN.

    Args:
        logits: [B, C], float64, float32, bfloat16 or float16, any strides. B and C at least 1.
        labels: [B, C], int8, any strides: above 0 an observed positive, below 0 a known negative, 0 unobserved.
        k: how many losses are large; at least 0.
        mode: "reject" or "correct".

    Returns:
        The loss, a scalar, float64 for float64 logits and float32 otherwise; and [B, C] bool: the entries that were
        rejected or corrected.

    Raises:
        ValueError: shapes or devices do not fit, an empty batch, a k below 0, or another mode.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    if mode not in MODES:
        raise ValueError(f"mode: got {mode!r}, wanted {' or '.join(map(repr, MODES))}")
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss, corrected, _ = torch.ops.pumlc.large_loss(logits, labels, k, mode == "correct", with_gradient)
    return loss, corrected


@torch.library.register_fake("pumlc::large_loss")
def _(logits, labels, k, corrects, with_gradient):
    rows, classes = logits.shape
    return (
        logits.new_empty((), dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32),
        logits.new_empty((rows, classes), dtype=torch.bool),
        logits.new_empty((rows if with_gradient else 0, classes)),
    )


def _save(ctx, inputs, output) -> None:
    _, corrected, gradient = output
    ctx.mark_non_differentiable(corrected, gradient)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient)


def _backward(ctx, upstream, _corrected, _gradient):
    if torch.is_grad_enabled():  # in a backward pass only with create_graph=True
        raise RuntimeError(
            "large_loss has no second derivative: its gradient is made in the forward pass. Use "
            "pumlc.ops.reference.large_loss where you differentiate twice."
        )
    if upstream is None:
        return None, None, None, None, None
    (gradient,) = ctx.saved_tensors
    return torch.ops.pumlc.pu_loss_backward(gradient, upstream), None, None, None, None


torch.library.register_autograd("pumlc::large_loss", _backward, setup_context=_save)
