"""The moving average: its arithmetic, what it covers, and that applying it leaves no trace."""

from __future__ import annotations

import contextlib

import pytest
import torch

from pumlc.engine.ema import MovingAverage
from pumlc.nn.classifier import Classifier


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Classifier("test_resnet", 3, image_size=32, train_all=True)


def test_arithmetic(model):
    average = MovingAverage(model, decay=0.15)
    model.head.bias.data.fill_(1.0)
    start = average._average[-1 - len(model.moving_buffers())].clone()  # the head's bias is the last parameter
    average.update()  # decay (1+0)/(10+0) = 0.1
    model.head.bias.data.fill_(2.0)
    average.update()  # decay min(0.15, 2/11) = 0.15
    expected = 0.15 * (0.1 * start + 0.9 * 1.0) + 0.85 * 2.0
    with average.applied():
        torch.testing.assert_close(model.head.bias.data, expected)
    assert model.head.bias.tolist() == [2.0, 2.0, 2.0]


def test_without_warmup_the_decay_is_constant(model):
    average = MovingAverage(model, decay=0.9, warmup=False)
    start = average._average[-1 - len(model.moving_buffers())].clone()
    model.head.bias.data.fill_(1.0)
    average.update()
    with average.applied():
        torch.testing.assert_close(model.head.bias.data, 0.9 * start + 0.1)


def test_applied_is_undone_after_an_error(model):
    average = MovingAverage(model, decay=0.9)
    pointers = [p.data_ptr() for p in model.parameters()]
    model.head.weight.data.zero_()
    with contextlib.suppress(ZeroDivisionError), average.applied():
        assert model.head.weight.abs().sum() > 0
        raise ZeroDivisionError
    assert model.head.weight.abs().sum() == 0
    assert [p.data_ptr() for p in model.parameters()] == pointers


def test_covers_moving_statistics_only_where_they_move(model):
    images = torch.randn(4, 3, 32, 32) + 5
    average = MovingAverage(model, decay=0.9)
    model.train()(images)
    average.update()
    mean = model.backbone.bn1.running_mean.clone()
    with average.applied():
        assert not torch.equal(model.backbone.bn1.running_mean, mean)
    assert average.buffers()

    frozen = Classifier("test_resnet", 3, image_size=32)
    average = MovingAverage(frozen, decay=0.9)
    trainable = [p for p in frozen.parameters() if p.requires_grad]
    assert len(average.state_dict()["average"]) == len(trainable)
    assert average.buffers() == []


def test_state_comes_back(model):
    average = MovingAverage(model, decay=0.9)
    model.head.bias.data.add_(1)
    average.update()
    other = MovingAverage(model, decay=0.9)
    other.load_state_dict(average.state_dict())
    assert other.updates == 1
    for a, b in zip(average.state_dict()["average"], other.state_dict()["average"], strict=True):
        assert torch.equal(a, b)
