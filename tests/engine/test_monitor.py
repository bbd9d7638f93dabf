"""What a log line says, and that the first bad batch is the one that is kept."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.engine.distributed import World
from pumlc.engine.monitor import Monitor, Window, speed
from pumlc.methods import Step

LABELS = torch.tensor([[1, 0]], dtype=torch.int8)


def step(loss: float) -> Step:
    return Step(torch.tensor(loss), torch.full((1, 2), loss))


def test_window():
    monitor = Monitor(World(torch.device("cpu")), batch_size=8)
    for number, loss in enumerate((1.0, 2.0, 6.0), 1):
        monitor.add(number, step(loss), LABELS)
    monitor.waited(0.25)
    window = monitor.read()
    assert (window.loss, window.images, window.bad_step) == (3.0, 24, None)
    assert window.wait == pytest.approx(0.25 / window.seconds)
    monitor.add(4, step(5.0), LABELS)
    window = monitor.read()
    assert (window.loss, window.images) == (5.0, 8)
    assert monitor.bad_batch() is None


def test_parts_of_the_loss():
    monitor = Monitor(World(torch.device("cpu")), batch_size=8)
    for number, (first, second) in enumerate(((1.0, 4.0), (3.0, 0.0)), 1):
        parts = {"pu": torch.tensor(first), "mixup": torch.tensor(second)}
        monitor.add(number, Step(torch.tensor(first + second), torch.zeros(1, 2), parts), LABELS)
    window = monitor.read()
    assert (window.loss, window.parts) == (4.0, {"pu": 2.0, "mixup": 2.0})
    monitor.add(3, Step(torch.tensor(5.0), torch.zeros(1, 2), {"pu": torch.tensor(5.0)}), LABELS)
    assert monitor.read().parts == {"pu": 5.0, "mixup": 0.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_first_bad_batch_is_kept(bad):
    monitor = Monitor(World(torch.device("cpu")), batch_size=1)
    monitor.add(1, step(1.0), LABELS)
    monitor.add(2, Step(torch.tensor(bad), torch.tensor([[7.0, 8.0]])), LABELS + 1)
    monitor.add(3, step(math.nan), LABELS)
    monitor.add(4, step(1.0), LABELS)
    assert monitor.read().bad_step == 2
    logits, labels = monitor.bad_batch()
    assert logits.tolist() == [[7.0, 8.0]]
    assert torch.equal(labels, LABELS + 1)


def test_speed_of_several_windows():
    def window(images, seconds, wait):
        return Window(0.0, images, seconds, wait, bad_step=None, parts={})

    assert speed([window(30, 1.0, 0.5), window(30, 3.0, 0.1)]) == pytest.approx((15.0, 0.2))
    assert speed([]) == (0.0, 0.0)
