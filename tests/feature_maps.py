"""Feature maps that the operators of the global branch are tested on: named shapes, strides and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor


def _sliced(tensor: Tensor) -> Tensor:
    """A window of a larger map, every second column of it, among more channels."""
    images, channels, height, width = tensor.shape
    larger = torch.full((images, channels + 3, height + 2, 2 * width + 1), 7.0, dtype=tensor.dtype)
    window = _channels_last(larger)[:, 2:-1, 1:-1, 1::2]
    return window.copy_(tensor)


@dataclass(frozen=True)
class FeatureMap:
    """A feature map [B, C, H, W] and a map [B, K, H, W] for its heads, in float64 and made from a fixed seed."""

    name: str
    shape: tuple[int, int, int, int]
    """B, C, H, W."""
    heads: int = 8
    layout: Callable[[Tensor], Tensor] = _channels_last
    """Gives a contiguous map the strides of the case."""
    change_scores: Callable[[Tensor], Tensor] = lambda scores: scores
    """From normally distributed scores to those of the case."""

    def random(self, channels: int, dtype: torch.dtype, device: torch.device | str, *, stride: int = 1) -> Tensor:
        """A normally distributed map [B, channels, H, W], with every stride-th row and column of it, on the device.

        The same values in every dtype, up to rounding.
        """
        images, _, height, width = self.shape
        size = (images, channels, (height + stride - 1) // stride, (width + stride - 1) // stride)
        generator = torch.Generator().manual_seed(len(self.name) + channels)
        return self.as_laid_out(torch.randn(size, dtype=torch.float64, generator=generator), dtype, device)

    def features(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """[B, C, H, W]"""
        return self.random(self.shape[1], dtype, device)

    def scores(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """[B, K, H, W]"""
        scores = self.random(self.heads, torch.float64, "cpu").contiguous()
        return self.as_laid_out(self.change_scores(scores), dtype, device)

    def as_laid_out(self, tensor: Tensor, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """The same values with the strides of the case."""
        laid_out = self.layout(tensor.contiguous())
        cast = torch.empty_strided(laid_out.shape, laid_out.stride(), dtype=dtype, device=device)
        return cast.copy_(laid_out)


def _raise_one(amount: float) -> Callable[[Tensor], Tensor]:
    def change(scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, :, -1, scores.shape[3] // 2] += amount
        return scores

    return change


FEATURE_MAPS = (
    FeatureMap("one pixel", (2, 16, 1, 1)),
    FeatureMap("one row", (2, 24, 1, 37)),
    FeatureMap("one column", (3, 8, 43, 1)),
    FeatureMap("one channel", (3, 1, 9, 11), heads=1),
    FeatureMap("primes", (2, 82, 7, 13), heads=2),
    FeatureMap("channels that are no multiple of eight", (2, 36, 9, 5), heads=4),
    FeatureMap("more heads than a block", (2, 33, 8, 9), heads=11),
    FeatureMap("more channels than a block", (1, 1040, 3, 3)),
    FeatureMap("more odd channels than a block", (1, 263, 3, 5), heads=1),
    FeatureMap("scores of +-80", (2, 16, 9, 10), change_scores=lambda s: s.sign() * 80),
    FeatureMap("constant scores", (2, 16, 9, 10), change_scores=lambda s: torch.full_like(s, -0.7)),
    FeatureMap("one dominant score", (2, 16, 9, 10), change_scores=_raise_one(8)),
    FeatureMap("one score that takes all", (2, 16, 9, 10), change_scores=_raise_one(800)),
    FeatureMap("contiguous", (2, 40, 11, 9), layout=_contiguous),
    FeatureMap("sliced", (2, 40, 11, 9), layout=_sliced),
    FeatureMap("no image", (0, 16, 7, 7)),
    FeatureMap("odd sides", (1, 16, 57, 57)),
    FeatureMap("several chunks", (1, 64, 40, 40)),
)
