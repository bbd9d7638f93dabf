"""Labels as the kernels read them."""

from __future__ import annotations

import torch
from torch import Tensor


def as_int8(labels: Tensor) -> Tensor:
    """labels [B, C] of any dtype -> int8, positive where above 0; int8 and bool pass without a copy."""
    if labels.dtype == torch.int8:
        return labels
    return (labels if labels.dtype == torch.bool else labels > 0).view(torch.int8)


def as_signs(labels: Tensor) -> Tensor:
    """labels [B, C] of any dtype -> int8, with their signs; int8 and bool pass without a copy."""
    if labels.dtype == torch.bool:
        return labels.view(torch.int8)
    return labels if labels.dtype == torch.int8 else labels.sign().to(torch.int8)
