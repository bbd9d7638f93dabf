"""A loss of the images of all processes, whose gradients are then averaged over them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


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
