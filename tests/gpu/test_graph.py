"""A whole training step, from the images to the updated weights, captured in a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pumlc.data.loader import Batch
from pumlc.engine.optimizer import fused_adam
from pumlc.engine.precision import choose_precision
from pumlc.methods.pu_mlc import PUMLC
from pumlc.nn.classifier import Classifier

BACKBONES = {"cpu": "test_resnet", "cuda": "resnet101"}
IMAGES, CLASSES, SIZE = 4, 6, 32
WARM_UP, STEPS = 3, 4


class Training:
    """Model, method and optimizer as the trainer has them, on a batch and a loss that keep their memory."""

    def __init__(self, device: torch.device, mixup: float) -> None:
        torch.manual_seed(0)
        model = Classifier(BACKBONES[device.type], CLASSES, image_size=SIZE, train_all=True)
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.method = PUMLC(mixup=mixup)
        self.optimizer = fused_adam(self.model.parameters(), lr=1e-3, weight_decay=1e-4)
        for group in self.optimizer.param_groups:
            group["capturable"] = device.type == "cuda"
        self.precision = choose_precision("auto", device)
        images = torch.zeros(IMAGES, 3, SIZE, SIZE, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(IMAGES, CLASSES, device=device, dtype=torch.int8)
        self.batch = Batch(images, labels, torch.arange(IMAGES, device=device))
        self.loss = torch.zeros((), device=device)

    def step(self) -> None:
        with self.precision.autocast():
            step = self.method(self.model, self.batch, 0)
        step.loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss.copy_(step.loss.detach())

    def on(self, images: Tensor, labels: Tensor, step: Callable[[], object]) -> Tensor:
        """The loss of a step on these images and labels."""
        self.batch.images.copy_(images)
        self.batch.labels.copy_(labels)
        step()
        return self.loss.clone()

    def weights(self) -> Tensor:
        """All weights and BatchNorm statistics, one after the other."""
        return torch.cat([tensor.detach().double().flatten() for tensor in self.model.state_dict().values()])


def random_batches(count: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator).to(device),
            (torch.rand(IMAGES, CLASSES, generator=generator) < 0.3).to(torch.int8).to(device),
        )
        for _ in range(count)
    ]


def capture(step: Callable[[], None], device: torch.device) -> Callable[[], object]:
    """The step as one CUDA graph. A CPU has none: there it is the step, so that the rest of the test is run too."""
    if device.type == "cpu":
        return step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def warm_up(training: Training, images: Tensor, labels: Tensor, device: torch.device) -> None:
    """A few steps, which make what the first step makes; for a graph that has to be on another stream."""
    if device.type == "cpu":
        for _ in range(WARM_UP):
            training.on(images, labels, training.step)
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            training.on(images, labels, training.step)
    torch.cuda.current_stream(device).wait_stream(stream)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_captured_step_trains_as_the_eager_one(mixup, device):
    first, *others = random_batches(1 + STEPS, device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        eager, captured = Training(device, mixup), Training(device, mixup)
        for training in (eager, captured):
            torch.manual_seed(0)  # both draw the same mixtures
            warm_up(training, *first, device)
        start = eager.weights()
        replay = capture(captured.step, device)
        torch.manual_seed(1)
        eager_losses = torch.stack([eager.on(*batch, eager.step) for batch in others])
        torch.manual_seed(1)
        losses = torch.stack([captured.on(*batch, replay) for batch in others])
    assert losses.isfinite().all()
    torch.testing.assert_close(losses, eager_losses, rtol=1e-2, atol=1e-2)
    # beside the distance that training went, which is all of it for a graph that leaves the weights alone; Adam makes a
    # whole step out of a rounding error where a gradient is near zero
    moved = (eager.weights() - start).norm()
    assert moved > 0
    assert (captured.weights() - eager.weights()).norm() <= 0.1 * moved
