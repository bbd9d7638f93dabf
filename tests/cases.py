"""Inputs that the operators are tested on, and the one rule for how exact a result must be."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

DATA = Path(os.environ.get("PUMLC_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Real photographs; tests that need them skip where they are absent."""

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """logits [B, C] in float64 and labels [B, C] int8, made from a fixed seed."""

    name: str
    make: Callable[[torch.Generator], tuple[Tensor, Tensor]]

    def __call__(self, dtype: torch.dtype, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """logits [B, C] in dtype and labels [B, C], on the device, with the strides of the case."""
        logits, labels = self.make(torch.Generator().manual_seed(len(self.name)))
        return _cast(logits, dtype, device), labels.to(device)


def _cast(logits: Tensor, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """The same values and strides in another dtype and place."""
    cast = torch.empty_strided(logits.shape, logits.stride(), dtype=dtype, device=device)
    return cast.copy_(logits)


def _random(rows: int, classes: int, positives: float = 0.05, scale: float = 2.0) -> Callable:
    def make(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = torch.randn(rows, classes, dtype=torch.float64, generator=generator) * scale - 1
        draw = torch.rand(rows, classes, generator=generator)
        labels = (draw < positives).to(torch.int8) - (draw > 0.9).to(torch.int8)  # some known negatives
        return logits, labels

    return make


def _map(make: Callable, logits: Callable[[Tensor], Tensor] = lambda t: t, labels: Callable = lambda t: t) -> Callable:
    return lambda generator: tuple(f(t) for f, t in zip((logits, labels), make(generator), strict=True))


def _outlier(logits: Tensor) -> Tensor:
    logits = logits * 1e-3
    logits[len(logits) // 2] = 80.0
    return logits


def _every_second_column(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, 1)[:, ::2]


def _padded_rows(tensor: Tensor) -> Tensor:
    return torch.cat([tensor, torch.full_like(tensor[:, :3], 7)], 1)[:, :-3]


def _column_major(tensor: Tensor) -> Tensor:
    return tensor.t().contiguous().t()


CASES = (
    Case("one element", _map(_random(1, 1), lambda t: torch.full_like(t, 0.004), torch.ones_like)),
    Case("one row", _random(1, 37)),
    Case("one class", _random(53, 1)),
    Case("no positive", _random(16, 20, positives=0.0)),
    Case("all positive", _map(_random(16, 20), labels=torch.ones_like)),
    Case("constant logits", _map(_random(19, 23), logits=lambda t: torch.full_like(t, -0.7))),
    Case("logits of +-80", _map(_random(31, 17), logits=lambda t: t.sign() * 80)),
    Case("far from zero", _map(_random(64, 33), logits=lambda t: t - 500)),
    Case("one outlier", _map(_random(300, 5), logits=_outlier)),
    Case("primes", _random(41, 1271)),
    Case("COCO", _random(35, 80)),
    Case("wide tiles with a tail", _random(70, 700)),
    Case("more rows than a wide tile has", _random(2500, 600, positives=0.01)),
    Case("tall", _random(5003, 7)),
    Case("very tall", _random(9001, 3)),  # more rows than a GPU keeps in shared memory
    Case("as many classes as make wider blocks", _random(37, 2113)),
    Case("as many classes as make the widest blocks", _random(37, 4999)),
    Case("padded rows", _map(_random(29, 45), _padded_rows, _padded_rows)),
    Case("every second column", _map(_random(29, 45), _every_second_column, _every_second_column)),
    Case("column-major", _map(_random(29, 45), _column_major, _column_major)),
)


def assert_as_exact_as_eager(result: Tensor, eager: Tensor, truth: Tensor) -> None:
    """Fails where a result errs more than twice as much as eager PyTorch does, plus one unit in the last place.

    Args:
        result: what is under test.
        eager: the reference at the dtype of the result's inputs, of the same shape.
        truth: the reference in float64, of the same shape.

    Errors are the largest over the tensor, and so is the unit: eps of the eager dtype times the largest true value.
    Where eager PyTorch itself overflows, only the unit is allowed. In float64, eager PyTorch is the truth, which
    leaves nothing to compare errors with: there the unit is 1e-12 times the largest true value.
    """
    assert result.shape == truth.shape
    assert torch.equal(result.isfinite(), truth.isfinite())
    if truth.numel() == 0:
        return
    result, truth = result.double().cpu(), truth.cpu()
    error = (result - truth).abs().max().item()
    eager_error = (eager.double().cpu() - truth).abs().max().item()
    eps = 1e-12 if eager.dtype == torch.float64 else torch.finfo(eager.dtype).eps
    unit = eps * truth.abs().max().item()
    allowed = (2 * eager_error if eager.isfinite().all() else 0.0) + unit
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g} (eager PyTorch {eager_error:.3g})"


def assert_same_bits(results: Sequence[Sequence[Tensor]]) -> None:
    """Fails where a result, some tensors of any shape, is not the first one bit for bit."""
    for result in results[1:]:
        for tensor, expected in zip(result, results[0], strict=True):
            assert torch.equal(tensor, expected)


def assert_same_bits_on_any_number_of_threads(function: Callable[[], Sequence[Tensor]]) -> None:
    """Fails where what a function gives, some tensors of any shape, depends on the threads that it has."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(function())
    finally:
        torch.set_num_threads(before)
    assert_same_bits(results)
