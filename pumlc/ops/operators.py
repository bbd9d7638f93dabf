"""Which functions a network calls: kernels, or plain PyTorch while it is exported."""

from __future__ import annotations

from types import ModuleType

import torch

from pumlc.ops import reference


def operators() -> ModuleType:
    """:mod:`pumlc.ops`; :mod:`pumlc.ops.reference` while a graph is exported, which must not need this package."""
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return reference
    from pumlc import ops  # which this module is a part of

    return ops
