"""Features, words and vectors that semantic attention is tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _every_second(tensor: Tensor) -> Tensor:
    """Of each two neighbours in the last dimension, one that does not belong to the tensor."""
    return tensor.repeat_interleave(2, -1)[..., ::2]


def _transposed(tensor: Tensor) -> Tensor:
    """The first dimensions of a tensor as a convolution or a transposed matrix has them: apart by one."""
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


@dataclass(frozen=True)
class SemanticCase:
    name: str
    size: tuple[int, int, int, int]
    """B, P, C, D."""
    magnitude: float = 1.0
    """Standard deviation of the features."""
    lay_out: Callable[[Tensor], Tensor] = _as_it_is
    change: Callable[[Tensor], Tensor] = _as_it_is
    """From normally distributed features to those of the case."""

    def __call__(self, dtype: torch.dtype, device: torch.device | str) -> list[Tensor]:
        """features [B, P, D], words [C, D], v [D] and the gradient of the output [B, C, P], from a fixed seed."""
        images, positions, classes, dimensions = self.size
        generator = torch.Generator().manual_seed(len(self.name))
        features, words, v, upstream = (
            torch.randn(shape, dtype=torch.float64, generator=generator)
            for shape in (
                (images, positions, dimensions),
                (classes, dimensions),
                (dimensions,),
                (images, classes, positions),
            )
        )
        features = self.change(features * self.magnitude)
        return [self.lay_out(tensor.to(device=device, dtype=dtype)) for tensor in (features, words, v, upstream)]


CASES = (
    SemanticCase("one element", (1, 1, 1, 1)),
    SemanticCase("one position", (3, 1, 20, 33)),
    SemanticCase("one class", (2, 9, 1, 40)),
    SemanticCase("one dimension", (2, 11, 13, 1)),
    SemanticCase("primes", (3, 37, 41, 53)),
    SemanticCase("whole tiles", (2, 16, 32, 64)),
    SemanticCase("one more than whole tiles", (1, 33, 33, 65)),
    SemanticCase("many positions", (1, 300, 9, 17)),
    SemanticCase("many classes", (1, 3, 333, 17)),
    SemanticCase("VOC", (2, 49, 20, 128)),
    SemanticCase("small products", (2, 9, 10, 40), magnitude=1e-3),
    SemanticCase("products of +-80", (2, 9, 10, 40), magnitude=80),
    SemanticCase(
        "all saturated but one", (2, 9, 10, 40), change=lambda f: torch.where(f > f.amin(), 200 * f.sign(), f)
    ),
    SemanticCase("every second column", (2, 9, 10, 19), lay_out=_every_second),
    SemanticCase("transposed", (2, 9, 10, 40), lay_out=_transposed),
    SemanticCase("no image", (0, 9, 10, 40)),
)
