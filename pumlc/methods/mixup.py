"""Mixed images: a batch paired with itself, each pair blended into one more image (PU-MLC, arXiv 2306.16016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mixture(NamedTuple):
    """How the first half of a batch is laid over the second; h = ceil(B / 2), on the device of the images."""

    permutation: Tensor  # [h] int64, of the rows of the first half
    mix: Tensor  # [] float32, the share of the first half

    @classmethod
    def draw(cls, images: Tensor, beta: float) -> Mixture:
        """A random order, and one share from Beta(beta, beta); images [B, 3, H, W].

        From the generator of the images' device, whose state a checkpoint holds: a resumed run draws what the
        uninterrupted one would have, however many threads load pictures. Nothing waits for the device, and a CUDA
        graph draws anew at every replay.
        """
        device = images.device
        # not randperm, which may make its numbers on the host
        permutation = torch.rand((len(images) + 1) // 2, device=device).argsort()
        concentration = torch.full((), beta, device=device)
        mix = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()
        return cls(permutation, mix)

    def of(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> the mixed images [h, 3, H, W], in the same layout and dtype."""
        first = images[self.permutation]
        second = images[len(images) - len(first) :]
        return second.lerp(first, self.mix.to(images.dtype))
