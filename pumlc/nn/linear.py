"""Linear layers of float32 on a CPU through oneDNN, which PyTorch takes for convolutions.

PyTorch multiplies float32 matrices with MKL, and that leaves the wide registers of some processors unused: on two cores
of an AMD EPYC with AVX-512 the layers of the graph network (320 rows, 2048 to 1024) took 7.7 ms in MKL and 3.2 ms as a
1 x 1 convolution over a map of one row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


class Linear(nn.Linear):
    """``nn.Linear``; in float32 on a CPU a 1 x 1 convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] -> [..., out_features]"""
        if not _takes_onednn(x, self.weight):
            return super().forward(x)
        y = _Product.apply(x.reshape(-1, x.shape[-1]), self.weight)
        y = y if self.bias is None else y + self.bias
        return y.unflatten(0, x.shape[:-1])


def _takes_onednn(x: Tensor, weight: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():  # which know what to do with a linear layer
        return False
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 1
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


class _Product(torch.autograd.Function):
    """x [M, K], weight [N, K] -> x weight^T [M, N]. All three products of a step are such ones."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight = ctx.needs_input_grad
        x_gradient = _product(gradient, weight.mT) if for_x else None
        weight_gradient = _product(gradient.mT, x.mT) if for_weight else None
        return x_gradient, weight_gradient


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] b [N, K]^T -> [M, N]: a as a channels_last map [1, K, M, 1], whose pixels are its rows."""
    rows, columns = a.shape
    pixels = a.contiguous().view(1, rows, 1, columns).permute(0, 3, 1, 2)
    return conv2d(pixels, b.contiguous()[:, :, None, None]).permute(0, 2, 3, 1).reshape(rows, len(b))
