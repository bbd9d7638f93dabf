"""The variational positive-unlabelled loss with per-class re-balance (PU-MLC, arXiv 2306.16016)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

import pumlc.ops._library  # noqa: F401  (registers torch.ops.pumlc)
from pumlc.ops._labels import as_int8
from pumlc.ops.reference import PuStatistics


def pu_loss(
    logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    gamma: float = 0.55,
    *,
    min_temperature: float = 1e-2,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    r"""The PU loss of a batch.

    For each class, over the rows of the batch, with s the biased standard deviation of its logits z, n the number
    of its positives and w = mu\ :sup:`gamma` held constant::

        tau = clamp(alpha s, min_temperature, 1)      p = sigmoid(z / tau)      mu = mean p
        loss = w log(mu + 1e-10) - mean over positives of log p                 (second term 0 without positives)

    and the result is the sum over classes. tau and w carry no gradient. Equivalent to
    :func:`pumlc.ops.reference.pu_loss`, in one kernel launch that also makes the gradient; backward multiplies
    that by the upstream scalar. Rows labelled 0 and -1 are treated alike, and the unlabelled mean runs over all
    rows, positives included, as published. Two departures: tau has a lower bound (equal logits would give NaN),
    and log-sigmoid replaces log(p + 1e-10), so that the loss is finite for any finite logits.

    The result does not depend on the number of threads; the same input gives the same bits.

    Args:
        logits: [B, C], float64, float32, bfloat16 or float16, any strides. B and C at least 1.
        labels: [B, C], int8 or bool without a copy, other dtypes through one comparison. Above 0 is positive.
        alpha: temperature per standard deviation of a class's logits.
        gamma: exponent of the re-balance factor.
        min_temperature: lower bound of tau.
        group: a process group whose ranks hold the parts of one batch (parts may differ in size, also be empty).
            The statistics are then those of the whole batch, the loss is the same on every rank, and the gradient
            is multiplied by the group's size, so that the mean over ranks that DistributedDataParallel takes is
            the gradient of one process with the whole batch. None: statistics of this process's rows.

    Returns:
        Scalar, float64 for float64 logits and float32 otherwise. Not finite where the logits are not.

    Raises:
        ValueError: shapes or devices differ, or the batch is empty.
        TypeError: a dtype outside those above.
        RuntimeError: in backward, when a second derivative is asked for (create_graph=True).
    """
    labels = as_int8(labels)
    if group is None:
        with_gradient = logits.requires_grad and torch.is_grad_enabled()
        return torch.ops.pumlc.pu_loss(logits, labels, alpha, gamma, min_temperature, with_gradient)[0]
    loss, _, gradient = _over_group(logits.detach(), labels, alpha, gamma, min_temperature, group)
    return _Precomputed.apply(logits, loss, gradient)


def pu_statistics(
    logits: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    gamma: float = 0.55,
    *,
    min_temperature: float = 1e-2,
    group: dist.ProcessGroup | None = None,
) -> PuStatistics:
    """Per-class statistics of :func:`pu_loss`: positives, temperature, mean probability, re-balance weight, loss.

    Arguments as for :func:`pu_loss`. Each result is [C], float64 for float64 logits and float32 otherwise,
    without gradient.
    """
    labels = as_int8(labels)
    logits = logits.detach()
    if group is None:
        statistics = torch.ops.pumlc.pu_loss(logits, labels, alpha, gamma, min_temperature, False)[1]
    else:
        statistics = _over_group(logits, labels, alpha, gamma, min_temperature, group)[1]
    return PuStatistics(*statistics.unbind(0))


def _over_group(
    logits: Tensor, labels: Tensor, alpha: float, gamma: float, min_temperature: float, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [], statistics [5, C] of the whole batch and gradient [B, C] of this rank's rows, times the group's size."""
    size = dist.get_world_size(group)
    own = torch.ops.pumlc.pu_moments(logits, labels)
    parts = [torch.empty_like(own) for _ in range(size)]
    dist.all_gather(parts, own, group=group)
    moments = torch.cat(parts)  # [S, 4, C]: merged in the order of the ranks, on each of them
    sums = torch.ops.pumlc.pu_probability_sums(logits, labels, moments, alpha, min_temperature)
    dist.all_reduce(sums, group=group)
    return torch.ops.pumlc.pu_finish(logits, labels, moments, sums, alpha, gamma, min_temperature, float(size))


class _Precomputed(torch.autograd.Function):
    """A loss whose gradient is already known."""

    @staticmethod
    def forward(ctx, logits: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.view_as(loss)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream: Tensor):
        (gradient,) = ctx.saved_tensors
        return torch.ops.pumlc.pu_loss_backward(gradient, upstream), None, None


def _accumulator(logits: Tensor, shape: tuple[int, ...]) -> Tensor:
    return logits.new_empty(shape, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


@torch.library.register_fake("pumlc::pu_loss")
def _(logits, labels, alpha, gamma, min_temperature, with_gradient):
    rows, classes = logits.shape
    gradient = logits.new_empty((rows if with_gradient else 0, classes))
    return _accumulator(logits, ()), _accumulator(logits, (5, classes)), gradient


@torch.library.register_fake("pumlc::pu_loss_backward")
def _(gradient, upstream):
    return torch.empty_like(gradient, memory_format=torch.contiguous_format)


@torch.library.register_fake("pumlc::pu_moments")
def _(logits, labels):
    return _accumulator(logits, (1, 4, logits.shape[1]))


@torch.library.register_fake("pumlc::pu_probability_sums")
def _(logits, labels, moments, alpha, min_temperature):
    return _accumulator(logits, (2, logits.shape[1]))


@torch.library.register_fake("pumlc::pu_finish")
def _(logits, labels, moments, sums, alpha, gamma, min_temperature, gradient_scale):
    return (
        _accumulator(logits, ()),
        _accumulator(logits, (5, logits.shape[1])),
        logits.new_empty(logits.shape),
    )
