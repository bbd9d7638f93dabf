"""Same input, same bits: every case of every operator, run again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pumlc.ops import (
    attention_pool,
    depthwise_local_global,
    elementwise_loss,
    gated_broadcast_add,
    large_loss,
    mixup_consistency,
    pu_loss,
    pu_statistics,
    semantic_attention,
)
from tests import depthwise_cases, semantic_cases
from tests.cases import CASES
from tests.feature_maps import FEATURE_MAPS, FeatureMap

RUNS = 5


def loss_and_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    logits = logits.detach().requires_grad_()
    loss = pu_loss(logits, labels)
    return loss.detach(), *torch.autograd.grad(loss, logits), *pu_statistics(logits, labels)


def in_three_phases(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    op = torch.ops.pumlc
    moments = op.pu_moments(logits, labels)
    sums = op.pu_probability_sums(logits, labels, moments, 1.0, 1e-2)
    return moments, sums, *op.pu_finish(logits, labels, moments, sums, 1.0, 0.55, 1e-2, 1.0)


def mixup_and_gradients(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    if len(logits) == 1:  # nothing to mix
        logits, labels = logits.expand(2, -1), labels.expand(2, -1)
    half = (len(logits) + 1) // 2
    permutation = torch.arange(half, device=logits.device).flip(0)
    inputs = [tensor.detach().requires_grad_() for tensor in (logits, -logits[:half])]
    loss = mixup_consistency(inputs[0], labels, inputs[1], permutation, 0.3)
    return loss.detach(), *torch.autograd.grad(loss, inputs)


def elementwise_losses_and_gradients(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    logits = logits.detach().requires_grad_()
    losses = [elementwise_loss(logits, labels, kind) for kind in ("an", "asl", "gr")]
    return *(loss.detach() for loss in losses), *(torch.autograd.grad(loss, logits)[0] for loss in losses)


def large_loss_and_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    logits = logits.detach().requires_grad_()
    loss, corrected = large_loss(logits, labels, logits.numel() // 50 + 1, "correct")
    return loss.detach(), corrected, *torch.autograd.grad(loss, logits)


def attention_pool_and_gradients(case: FeatureMap, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    inputs = [case.features(dtype, device).requires_grad_(), case.scores(dtype, device).requires_grad_()]
    pooled = attention_pool(*inputs)
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, pooled.detach().sin())


def gated_broadcast_add_and_gradients(case: FeatureMap, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    y = case.features(dtype, device)
    u = y.mean((2, 3))[..., None].expand(-1, -1, case.heads)
    scale, shift = y.new_ones(y.shape[1]), y.new_ones(y.shape[1])
    inputs = [tensor.detach().requires_grad_() for tensor in (y, u, case.scores(dtype, device), scale, shift)]
    out = gated_broadcast_add(*inputs)
    return out.detach(), *torch.autograd.grad(out, inputs, out.detach().sin())


def bits(tensor: Tensor) -> Tensor:
    """As integers: NaN equals itself, and 0 differs from -0."""
    return tensor.contiguous().view(-1).view(torch.uint8)


@pytest.mark.parametrize(
    "function",
    [loss_and_gradient, in_three_phases, mixup_and_gradients, elementwise_losses_and_gradients],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_input_same_bits(case, dtype, function: Callable, device):
    logits, labels = case(dtype, device)
    assert_same_bits_run_to_run(lambda: function(logits, labels), device)


# one block, several of them, rows with gaps: the kernels do not know how many rows there are
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "case", [it for it in CASES if it.name in ("COCO", "primes", "padded rows")], ids=lambda case: case.name
)
def test_same_bits_of_large_loss(case, dtype, device):
    logits, labels = case(dtype, device)
    assert_same_bits_run_to_run(lambda: large_loss_and_gradient(logits, labels), device)


@pytest.mark.parametrize(
    "function",
    [attention_pool_and_gradients, gated_broadcast_add_and_gradients],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", FEATURE_MAPS, ids=lambda case: case.name)
def test_same_feature_map_same_bits(case, dtype, function: Callable, device):
    assert_same_bits_run_to_run(lambda: function(case, dtype, device), device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", depthwise_cases.CASES, ids=lambda case: case.name)
def test_same_bits_of_depthwise(case, dtype, device):
    *tensors, dy = case(dtype, device)

    def run() -> tuple[Tensor, ...]:
        inputs = [tensor.detach().requires_grad_() for tensor in tensors]
        y = depthwise_local_global(*inputs, stride=case.stride)
        return y.detach(), *torch.autograd.grad(y, inputs, dy)

    assert_same_bits_run_to_run(run, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", semantic_cases.CASES, ids=lambda case: case.name)
def test_same_bits_of_semantic_attention(case, dtype, device):
    *tensors, upstream = case(dtype, device)

    def run() -> tuple[Tensor, ...]:
        inputs = [tensor.detach().requires_grad_() for tensor in tensors]
        out = semantic_attention(*inputs)
        return out.detach(), *torch.autograd.grad(out, inputs, upstream)

    assert_same_bits_run_to_run(run, device)


def assert_same_bits_run_to_run(run: Callable[[], tuple[Tensor, ...]], device: torch.device) -> None:
    """Runs it again and again, on a GPU every second time beside other work."""
    first = run()
    for number in range(1, RUNS):
        if device.type == "cuda" and number % 2:
            keep_busy(device)
        for before, now in zip(first, run(), strict=True):
            assert torch.equal(bits(before), bits(now))


def keep_busy(device: torch.device) -> None:
    """Work on another stream, so that the blocks of the kernel under test start in another order."""
    with torch.cuda.stream(torch.cuda.Stream(device)):
        matrix = torch.rand(1024, 1024, device=device)
        for _ in range(4):
            matrix = (matrix @ matrix).sin()


def test_bits_tell_zeros_apart_and_not_nans():
    assert torch.equal(bits(torch.tensor([torch.nan])), bits(torch.tensor([torch.nan])))
    assert not torch.equal(bits(torch.tensor([0.0])), bits(torch.tensor([-0.0])))
