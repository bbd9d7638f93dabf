"""Feature maps that the depthwise operators are tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _every_second(x: Tensor) -> Tensor:
    """A channels_last map of which each pixel is the neighbour of one that does not belong to it."""
    wide = _channels_last(x).repeat_interleave(2, 3)
    return wide[..., ::2]


@dataclass(frozen=True)
class DepthwiseCase:
    """Inputs of depthwise_local_global; those of depthwise_conv2d are the first two."""

    name: str
    size: tuple[int, int, int, int]
    """B, C, H, W."""
    kernel: int
    stride: int
    heads: int = 1
    lay_out: Callable[[Tensor], Tensor] = _channels_last
    gate_magnitude: float = 2.0

    def __call__(self, dtype: torch.dtype, device: torch.device | str) -> list[Tensor]:
        """x, weight, context, gate_scores, centre, shift and the gradient of the output, from a fixed seed."""
        generator = torch.Generator().manual_seed(len(self.name))
        batch, channels, height, width = self.size

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64, generator=generator)

        gates = draw(batch, self.heads, height, width)
        gates = gates.sign() * 80 if self.gate_magnitude == 80 else gates * self.gate_magnitude
        out = (batch, channels, -(-height // self.stride), -(-width // self.stride))
        maps = [draw(*self.size), gates, draw(*out)]
        x, gates, dy = (self.lay_out(m.to(device=device, dtype=dtype)) for m in maps)
        vectors = [draw(channels, 1, self.kernel, self.kernel) / self.kernel, draw(batch, channels)]
        weight, context, centre, shift = (
            v.to(device=device, dtype=dtype) for v in (*vectors, draw(channels), draw(channels))
        )
        return [x, weight, context, gates, centre, shift, dy]


CASES = (
    DepthwiseCase("one pixel", (2, 8, 1, 1), 3, 1),
    DepthwiseCase("one pixel, stride 2", (1, 5, 1, 1), 7, 2),
    DepthwiseCase("one row", (2, 16, 1, 29), 5, 1, 4),
    DepthwiseCase("one column", (2, 24, 23, 1), 5, 2, 3),
    DepthwiseCase("smaller than the kernel", (3, 24, 4, 5), 7, 1, 2),
    DepthwiseCase("primes", (2, 41, 7, 13), 3, 1, 41),
    DepthwiseCase("primes, 7x7", (2, 41, 7, 13), 7, 2),
    DepthwiseCase("one channel", (2, 1, 4, 5), 3, 2),  # its gradients are single numbers: long sums would test luck
    DepthwiseCase("tail of channels", (2, 44, 10, 11), 5, 1, 4),
    DepthwiseCase("heads within a vector", (2, 48, 9, 9), 3, 1, 16),
    DepthwiseCase("heads across vectors", (2, 96, 6, 7), 7, 1, 8),
    DepthwiseCase("more channels than a task of dweight", (2, 280, 5, 6), 5, 1, 8),
    DepthwiseCase("contiguous", (2, 40, 11, 15), 5, 2, 5, torch.Tensor.contiguous),
    DepthwiseCase("sliced", (2, 32, 9, 10), 7, 1, 2, _every_second),
    DepthwiseCase("empty batch", (0, 16, 8, 8), 3, 1, 2),
    DepthwiseCase("batch of three", (3, 64, 14, 14), 7, 1, 8),
    DepthwiseCase("odd with stride 2", (1, 24, 57, 57), 3, 2, 3),
    DepthwiseCase("even with stride 2", (2, 32, 30, 34), 5, 2, 4),
    DepthwiseCase("even with stride 2, 7x7", (2, 16, 16, 18), 7, 2, 2),
    DepthwiseCase("gates of +-80", (2, 32, 8, 9), 3, 1, 4, gate_magnitude=80),
)
