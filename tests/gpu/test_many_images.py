"""More images than CUDA has blocks in the second dimension of a grid, 65,535."""

from __future__ import annotations

import torch

from pumlc.ops import attention_pool, gated_broadcast_add, reference

IMAGES, CHANNELS = 65_600, 8


def check(ours, theirs, inputs: list[torch.Tensor]) -> None:
    """Values and gradients against float64, on the CPU: sums over the images are long."""
    truth = [tensor.detach().cpu().double().requires_grad_() for tensor in inputs]
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    result, expected = ours(*inputs), theirs(*truth)
    torch.testing.assert_close(result.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(result, inputs, upstream.to(result))
    for gradient, true in zip(gradients, torch.autograd.grad(expected, truth, upstream), strict=True):
        torch.testing.assert_close(gradient.cpu().double(), true, rtol=1e-4, atol=1e-3)


def random(*shape: int, device: torch.device) -> torch.Tensor:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32)
    if len(shape) == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.to(device)


def test_gated_broadcast_add(device):
    shapes = ((IMAGES, CHANNELS, 1, 1), (IMAGES, CHANNELS, 1), (IMAGES, 1, 1, 1), (CHANNELS,), (CHANNELS,))
    check(gated_broadcast_add, reference.gated_broadcast_add, [random(*shape, device=device) for shape in shapes])


def test_attention_pool(device):
    shapes = ((IMAGES, CHANNELS, 1, 2), (IMAGES, 2, 1, 2))
    check(attention_pool, reference.attention_pool, [random(*shape, device=device) for shape in shapes])
