"""Forward and backward pass of a training step as one CUDA graph: what a GPU does, without what the host says to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch

from pumlc.data.loader import Batch
from pumlc.methods import Step

WARM_UP = 3
"""Steps that run as usual first: libraries choose their algorithms, and caches are filled."""


class GraphedGradients:
    """Calls ``gradients`` on batches; from the fourth on, a graph of it is replayed.

    A graph is what the GPU was asked to do once, with the addresses of that time: batches are copied to where it reads
    them, and it leaves the gradients and results where they were then. So gradients are cleared by nobody
    (:attr:`captured`), and the results of a call hold until the next. Random numbers go on from replay to replay as
    they do from step to step.

    Args:
        gradients: (batch, epoch) to the results of a step, detached, having left gradients in the ``grad`` of
            parameters that had none. What it does must be the same in every call but for the batch and for random
            numbers, whatever the epoch.
        device: a GPU.
    """

    def __init__(self, gradients: Callable[[Batch, int], Step], device: torch.device) -> None:
        self._gradients = gradients
        self._device = device
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Batch | None = None
        self._step: Step | None = None

    @property
    def captured(self) -> bool:
        """Whether a graph writes the gradients: their memory must stay."""
        return self._graph is not None

    def __call__(self, batch: Batch, epoch: int) -> Step:
        """Results of a step; raises ValueError for a batch of another shape than the graph's."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._on_another_stream(batch, epoch)
        if self._graph is None:
            self._capture(batch, epoch)
        for field in fields(Batch):
            source, target = getattr(batch, field.name), getattr(self._batch, field.name)
            if source.shape != target.shape:
                raise ValueError(f"batch.{field.name}: got shape {list(source.shape)}, wanted {list(target.shape)}")
            target.copy_(source, non_blocking=True)
        self._graph.replay()
        return self._step

    def _on_another_stream(self, batch: Batch, epoch: int) -> Step:
        """As the capture will: on the default stream, nothing can be captured."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            step = self._gradients(batch, epoch)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return step

    def _capture(self, batch: Batch, epoch: int) -> None:
        self._batch = replace(batch, **{field.name: getattr(batch, field.name).clone() for field in fields(Batch)})
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step = self._gradients(self._batch, epoch)
        self._graph = graph
