"""Logits for every image of a split, exactly once, on any number of processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from pumlc.data.loader import EvaluationLoader
from pumlc.engine.distributed import World
from pumlc.engine.ema import MovingAverage


@torch.no_grad()
def logits_of_split(
    model: nn.Module,
    loader: EvaluationLoader,
    world: World,
    *,
    average: MovingAverage | None = None,
    autocast: Callable[[], AbstractContextManager] = contextlib.nullcontext,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Tensor]:
    """Logits [N, C] float32 by kind of weights, "model" and maybe "ema", on the CPU of every process.

    Each batch is decoded once for both. Every process writes the rows of its own images; the sum puts them
    together without rounding, since everywhere else there are zeros.

    Args:
        model: in any mode; evaluated in evaluation mode and put back.
        loader: this process's share of the split.
        tick: called after every batch.

    Raises:
        RuntimeError: an image was seen twice or not at all.
    """
    was_training = model.training
    model.eval()
    kinds = ("model",) if average is None else ("model", "ema")
    logits = {kind: torch.zeros(loader.labels.shape, device=world.device) for kind in kinds}
    seen = torch.zeros(len(loader.labels), device=world.device)
    for batch in loader:
        seen.index_add_(0, batch.index, torch.ones_like(batch.index, dtype=seen.dtype))
        for kind, rows in logits.items():
            weights = average.applied() if kind == "ema" else contextlib.nullcontext()
            with weights, autocast():  # a block each: autocast keeps the casts of the weights until it ends
                rows.index_copy_(0, batch.index, model(batch.images).float())
        tick()
    model.train(was_training)
    for tensor in (*logits.values(), seen):
        world.sum(tensor)
    wrong = int((seen != 1).sum())
    if wrong:
        raise RuntimeError(f"{wrong} of {len(seen)} images were not evaluated exactly once")
    return {kind: rows.cpu() for kind, rows in logits.items()}
