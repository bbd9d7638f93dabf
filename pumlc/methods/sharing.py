"""What processes that share a batch tell each other; a loss of all their images, whose gradients are averaged."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def gather(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """[B, ...] of each process -> [B size, ...] by rank, differentiated by this process's rows alone.

    Without a group, the tensor itself.
    """
    if group is None:
        return tensor
    own = tensor.detach().contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    parts[dist.get_rank(group)] = tensor
    return torch.cat(parts)


def for_averaging(loss: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The same loss of gathered rows, with a gradient that the average over the processes makes that of all rows."""
    if group is None:
        return loss
    return loss.detach() + dist.get_world_size(group) * (loss - loss.detach())


def gather_values(value: T, group: dist.ProcessGroup | None) -> list[T]:
    """A small picklable value of every process, by rank. The host waits; all processes call it together."""
    if group is None:
        return [value]
    values: list[T] = [value] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def is_first(group: dist.ProcessGroup | None) -> bool:
    """Whether this process is the one that goes on with what all have counted together."""
    return group is None or dist.get_rank(group) == 0
