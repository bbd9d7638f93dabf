"""Number formats: what the hardware is good at, and the autocast block that goes with it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from pumlc.errors import InputError


class Precision(NamedTuple):
    name: str  # bf16, fp16 or fp32
    autocast: Callable[[], AbstractContextManager]
    scaler: torch.amp.GradScaler  # passes everything through unless the format is fp16
    images: torch.dtype  # of the pictures that the loader hands out


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve auto|bf16|fp16|fp32 on ``device``; raises InputError for fp16 on a CPU."""
    if name == "auto":
        name = "bf16" if _has_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise InputError("--precision fp16 needs a GPU; on a CPU choose bf16 or fp32.")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]
    autocast = functools.partial(torch.autocast, device.type, dtype=dtype, enabled=name != "fp32")
    scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")
    images = torch.float16 if device.type == "cuda" and name != "fp32" else torch.float32
    return Precision(name, autocast, scaler, images)


def _has_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there: emulated bf16 on an older CPU is several times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
