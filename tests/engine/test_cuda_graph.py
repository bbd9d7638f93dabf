"""The step as a CUDA graph: on a GPU the losses of the plain one; the order of events with a graph that is played."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest
import torch

from pumlc.data.loader import Batch
from pumlc.engine import cuda_graph
from pumlc.engine.cuda_graph import WARM_UP, GraphedGradients
from pumlc.engine.presets import RECIPES
from pumlc.engine.trainer import fit
from pumlc.errors import InputError
from pumlc.methods import Step
from tests.engine.runs import events, tiny_run


class PlayedGraph:
    """Remembers a computation and does it again at every replay, into the tensors of the first time."""

    def __init__(self) -> None:
        self.replays = 0
        self.work = None

    def replay(self) -> None:
        self.replays += 1
        self.work()


@pytest.fixture
def graphs(monkeypatch):
    made = []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {
        "CUDAGraph": lambda: made.append(PlayedGraph()) or made[-1],
        "graph": lambda graph: contextlib.nullcontext(),
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: contextlib.nullcontext(),
    }
    monkeypatch.setattr(cuda_graph.torch, "cuda", SimpleNamespace(**fakes))
    return made


def batch_of(value: float, size: int = 2) -> Batch:
    return Batch(torch.full((size, 3, 1, 1), value), torch.zeros(size, 1, dtype=torch.int8), torch.arange(size))


def test_batches_are_copied_to_where_the_graph_reads(graphs):
    seen = []
    result = torch.zeros(())

    def gradients(batch: Batch, epoch: int) -> Step:
        def work() -> None:
            seen.append(batch)
            result.copy_(batch.images.sum())

        work()
        if graphs:
            graphs[-1].work = work
        return Step(result, batch.images[:, :, 0, 0])

    graphed = GraphedGradients(gradients, torch.device("cpu"))
    for number in range(WARM_UP):
        assert graphed(batch_of(number), 0).loss == 6 * number
        assert not graphed.captured
    for number in range(5, 8):
        step = graphed(batch_of(number), 0)
        assert graphed.captured
        assert step.loss == 6 * number
        assert torch.equal(step.logits, torch.full((2, 3), float(number)))
    (graph,) = graphs
    assert graph.replays == 3
    captured = seen[WARM_UP:]
    assert all(batch is captured[0] for batch in captured)
    with pytest.raises(ValueError, match=r"batch.images: got shape \[4, 3, 1, 1\], wanted \[2, 3, 1, 1\]"):
        graphed(batch_of(1.0, size=4), 0)


def test_needs_a_gpu(picture_table, tmp_path):
    run = dataclasses.replace(tiny_run(picture_table, tmp_path / "run"), cuda_graph=True)
    with pytest.raises(InputError, match="--cuda-graph is for one GPU; this run is on the CPU"):
        fit(run)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("recipe", RECIPES)
def test_same_losses_as_without(recipe, picture_table, tmp_path):
    losses = []
    for graphed in (False, True):
        run = tiny_run(picture_table, tmp_path / str(graphed))
        run = dataclasses.replace(
            run, device="cuda", epochs=2, recipe=recipe, **RECIPES[recipe], cuda_graph=graphed, clip_norm=1.0
        )
        assert fit(run) == 0
        losses.append([event["loss"] for event in events(run, "train")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)  # cuDNN adds up in no fixed order
