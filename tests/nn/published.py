"""The local-global convolution as the PU-MLC paper's code computes it, in plain PyTorch: every map is made.

Parameters and their names are those of pumlc.nn.LocalGlobalConv2d, so that one's state dict loads into the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PublishedBranch(nn.Module):
    """G(x) = BN(W_p (x + V) + b_p); ``depthwise``: W_v and W_p have the groups of the conv."""

    def __init__(self, conv: nn.Conv2d, heads: int, reduction: int, depthwise: bool) -> None:
        super().__init__()
        channels, hidden = conv.in_channels, conv.in_channels // reduction
        groups = channels if depthwise else 1
        self.heads = heads
        self.reduction = nn.Conv2d(channels, hidden, 1)
        self.agg_attn = nn.Conv2d(2 * hidden, heads, 1)
        self.broad_attn = nn.Conv2d(2 * hidden, heads, 1)
        self.v = nn.Conv2d(channels, channels, 1, groups=groups)
        self.proj = nn.Conv2d(channels, conv.out_channels, 1, stride=conv.stride, groups=groups)
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, H / stride, W / stride]."""
        local = self.reduction(x).relu()
        mean = local.mean((2, 3), keepdim=True).expand_as(local)
        hidden = torch.cat([local, mean], 1)
        aggregate = self.agg_attn(hidden).flatten(2).softmax(2).unflatten(2, x.shape[2:])  # [B, K, H, W]
        gates = self.broad_attn(hidden).sigmoid()
        values = self.v(x).unflatten(1, (self.heads, -1))  # [B, K, C / K, H, W]
        context = (values * aggregate[:, :, None]).sum((3, 4), keepdim=True)
        spread = (context * gates[:, :, None]).flatten(1, 2)  # V
        return self.norm(self.proj(x + spread))


class PublishedLocalGlobalConv2d(nn.Module):
    def __init__(self, conv: nn.Conv2d, heads: int = 8, reduction: int = 4, *, dense_projections: bool = False) -> None:
        super().__init__()
        depthwise = conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels
        self.conv = conv
        self.global_branch = PublishedBranch(conv, heads, reduction, depthwise and not dense_projections)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.global_branch(x)
