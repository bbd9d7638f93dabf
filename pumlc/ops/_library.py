"""Loads the compiled extension, which registers the operators under ``torch.ops.pumlc``."""

from __future__ import annotations

import torch

try:
    from pumlc import _C
except ImportError as error:
    raise ImportError(
        f"The compiled part of pumlc cannot be loaded ({error}). In a checkout, build it with: make install. "
        "It must be built again after torch is updated."
    ) from error


def build_info() -> dict[str, object]:
    """What the extension was built with and what it uses here.

    Returns:
        ``cuda`` (bool: CUDA kernels were compiled), ``cuda_architectures`` (str or None), ``torch`` (version it
        was built against), ``compiler`` (version), ``cpu_instruction_set`` (the kernels this processor runs:
        baseline, avx2 or avx512), ``gpu`` (name of the current GPU or None).
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {**_C.build_info(), "gpu": gpu}
