"""A convolution with a 1 x 1 convolution folded into its centre tap, and its gradients.

Where the centre tap of an odd kernel stands on the positions that the 1 x 1 convolution samples (padding is half the
kernel), conv(x, weight) + conv_1x1(x, tap) is the convolution whose centre tap is the sum of both taps. The gradient
of ``tap`` is then that of the centre tap; where the weight itself is frozen, it is computed alone, as the weight
gradient of a 1 x 1 convolution.

The sum of the taps is made in every pass, for a copy of the weight is less work than a 1 x 1 convolution: from a single
image of 14 x 14 positions on, on a CPU that has memory for it and need not ask the system for more.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Of a convolution, down and across."""

    stride: Pair
    padding: Pair
    dilation: Pair


POINT = Geometry((1, 1), (0, 0), (1, 1))
"""Of a 1 x 1 convolution."""


def folded_conv2d(x: Tensor, weight: Tensor, tap: Tensor, geometry: Geometry) -> Tensor:
    """conv(x, weight) + conv_1x1(x, tap), stride and all.

    x [B, C, H, W], weight [O, C, K, L], tap [O, C], of one dtype -> [B, O, H / s, W / s].
    """
    return conv2d(x, fold(weight, tap), None, *geometry)


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, tap: Tensor, geometry: Geometry) -> Tensor:
    """By x [B, C, H, W], from that of the result, [B, O, H / s, W / s]: a fresh tensor."""
    return _gradients(gradient, x, fold(weight, tap), geometry, [True, False, False])[0]


def weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """By weight [O, C, K, L]; its values do not enter."""
    return _gradients(gradient, x, weight, geometry, [False, True, False])[1]


def tap_gradient(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """By tap [O, C], without that of the whole weight [O, C, K, L]."""
    centre = weight[:, :, :1, :1]
    return weight_gradient(gradient, x, centre, POINT._replace(stride=geometry.stride)).flatten(1)


def centre_tap(weight: Tensor) -> Tensor:
    """weight [O, C, K, L] -> a view [O, C]."""
    height, width = (size // 2 for size in weight.shape[2:])
    return weight[:, :, height, width]


def fold(weight: Tensor, tap: Tensor) -> Tensor:
    """A copy of weight [O, C, K, L] with tap [O, C] added to its centre tap."""
    folded = weight.clone()
    centre_tap(folded).add_(tap)
    return folded


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: list[bool]):
    return torch.ops.aten.convolution_backward.default(gradient, x, weight, None, *geometry, False, [0, 0], 1, wanted)
