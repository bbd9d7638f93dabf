"""The local-global convolution of PU-MLC (arXiv 2306.16016): a convolution and what the whole image says, at once.

    y = conv(x) + G(x)        G(x) = BN( W_p (x + V) + b_p )        V_k(p) = B_k(p) u_k

for K heads k with C / K channels each. L = ReLU(W_r x + b_r) is a map of R = C / reduction channels,
h(p) = [L(p); mean L]; A_k is the softmax over positions of W_a h, B_k the sigmoid of W_b h, and
u_k = sum_p A_k(p) (W_v x(p) + b_v)_k. The published module makes the maps W_v x, V and W_p (x + V); the same numbers
come from less:

- the positions are pooled before W_v is applied: on K vectors per image instead of on a map;
- W_p V is the context, K vectors W_p^(k) u_k, spread by the gates B_k;
- BN on running statistics is s * (.) + t, and s W_p goes into the centre tap of the convolution;
- the mean of L and the bias b_a shift all scores of a head alike, which the softmax does not see;
- gradients of x and of W_p, which several parts read, are added up where they are made.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from pumlc import ops
from pumlc.nn.dense_local_global import DenseLocalGlobal, sampled
from pumlc.nn.folded_conv import Geometry
from pumlc.nn.global_branch import BranchParameters, context_of, scores_of

if TYPE_CHECKING:
    from pumlc.nn.frozen_norm import FrozenNorm

DEPTHWISE_KERNELS = (3, 5, 7)


class GlobalBranch(nn.Module):
    """The parameters of G, with the names and shapes of the published module.

    Args:
        in_channels, out_channels, stride: of the wrapped convolution.
        heads: K; divides in_channels.
        reduction: the map L has in_channels // reduction channels.
        depthwise: ``v`` and ``proj`` act on each channel alone, as the wrapped convolution does.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: tuple[int, int], heads: int, reduction: int, depthwise: bool
    ) -> None:
        super().__init__()
        hidden = in_channels // reduction
        groups = in_channels if depthwise else 1
        self.heads = heads
        self.reduction = nn.Conv2d(in_channels, hidden, 1)
        self.agg_attn = nn.Conv2d(2 * hidden, heads, 1)
        self.broad_attn = nn.Conv2d(2 * hidden, heads, 1)
        self.v = nn.Conv2d(in_channels, in_channels, 1, groups=groups)
        self.proj = nn.Conv2d(in_channels, out_channels, 1, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(out_channels)
        # nearly nothing at first, so that a pretrained network starts from what it knows
        nn.init.normal_(self.norm.weight, std=1e-4)
        nn.init.zeros_(self.norm.bias)

    def tensors(self) -> BranchParameters:
        return BranchParameters(
            self.reduction.weight,
            self.reduction.bias,
            self.agg_attn.weight,
            self.agg_attn.bias,
            self.broad_attn.weight,
            self.broad_attn.bias,
            self.v.weight,
            self.v.bias,
            self.proj.weight,
            self.proj.bias,
        )

    def channel_context(self, x: Tensor, aggregate: Tensor) -> Tensor:
        """p_c (v_c u_c + b_v,c): x [B, C, H, W], aggregate [B, K, H, W] -> [B, C]. For depthwise projections."""
        pooled = ops.attention_pool(x, aggregate, grouped=True)  # [B, C]
        return self.proj.weight.flatten() * (self.v.weight.flatten() * pooled + self.v.bias)


class LocalGlobalConv2d(nn.Module):
    """A convolution with the global branch of PU-MLC beside it; input and output are those of the convolution.

    State-dict names are those of the published module: ``conv.*`` and ``global_branch.{reduction, agg_attn,
    broad_attn, v, proj, norm}.*``. While ``global_branch.norm`` is in evaluation mode (the published recipe keeps it
    there in training too), the projection is folded into the convolution; while it trains, the branch is exact as
    well, with a map of its own for the statistics of the batch.

    Args:
        conv: the convolution; it becomes a submodule, its weights are not copied. Odd kernel, zero padding of half
            its extent (``padding="same"`` or K // 2, times the dilation).
        heads: K; divides the input channels.
        reduction: the scores come from a map of input channels // reduction.
        dense_projections: where conv is depthwise, ``v`` and ``proj`` are so too; True makes them mix all channels,
            as published.

    Raises:
        ValueError: the convolution cannot be wrapped; the message says why.
    """

    def __init__(self, conv: nn.Conv2d, heads: int = 8, reduction: int = 4, *, dense_projections: bool = False) -> None:
        super().__init__()
        if reason := why_not(conv, heads, reduction):
            raise ValueError(f"conv: got {conv}, which {reason}")
        self.conv = conv
        self.depthwise = is_depthwise(conv) and not dense_projections
        self.global_branch = GlobalBranch(
            conv.in_channels, conv.out_channels, conv.stride, heads, reduction, self.depthwise
        ).to(conv.weight.device, conv.weight.dtype)
        self.fused = _has_depthwise_kernel(conv) if self.depthwise else conv.groups == 1
        self.frozen_norm: FrozenNorm | None = None
        """The BatchNorm behind, where :func:`pumlc.nn.frozen_norm.fold_frozen_norms` put it in here."""
        if not self.fused:
            warnings.warn(
                f"{conv} is wrapped, but not fused with its global branch: that is for dense convolutions, and for "
                f"depthwise ones with a kernel of {DEPTHWISE_KERNELS}, a stride of 1 or 2 and no dilation.",
                stacklevel=2,
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, H / stride, W / stride]."""
        x = x.to(compute_dtype(x))
        if self.global_branch.norm.training:
            return self._with_batch_statistics(x)
        if not self.depthwise:
            return self._dense(x) if self.fused else self._dense_in_parts(x)
        return self._depthwise(x) if self.fused else self._depthwise_in_parts(x)

    def _dense(self, x: Tensor) -> Tensor:
        conv, branch = self.conv, self.global_branch
        scale, shift = affine_of(branch.norm)
        weight, bias = conv.weight, conv.bias
        if self.frozen_norm is not None and self.frozen_norm.applies:
            weight, bias = self.frozen_norm.weights(x.dtype)
            outer, _ = affine_of(self.frozen_norm.norm)
            scale, shift = outer * scale, outer * shift
        if bias is not None:
            shift = shift + bias
        geometry = Geometry(conv.stride, padding_of(conv), conv.dilation)
        return DenseLocalGlobal.apply(geometry, x, weight.to(x.dtype), scale, shift, *branch.tensors())

    def _dense_in_parts(self, x: Tensor) -> Tensor:
        scale, shift = affine_of(self.global_branch.norm)
        return self.conv(x) + self._projection(x, scale, scale * self.global_branch.proj.bias + shift)

    def _projection(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """scale * W_p (x + V) + shift as a map, [B, O, h, w]. For dense projections."""
        tensors, stride = self.global_branch.tensors(), self.conv.stride
        scores = scores_of(x, tensors)
        _, context = context_of(ops.attention_pool(x, scores.aggregate), tensors)
        projected = conv2d(x, tensors.tap(scale, x.dtype)[:, :, None, None], stride=stride)
        gate, step = sampled(scores.gate, stride)
        return ops.gated_broadcast_add(projected, context, gate, scale, shift, stride=step)

    def _depthwise(self, x: Tensor) -> Tensor:
        conv, branch = self.conv, self.global_branch
        scores = scores_of(x, branch.tensors())
        scale, shift = affine_of(branch.norm)
        context = scale * branch.channel_context(x, scores.aggregate)
        centre = scale * branch.proj.weight.flatten()
        shift = scale * branch.proj.bias + shift
        if conv.bias is not None:
            shift = shift + conv.bias
        return ops.depthwise_local_global(x, conv.weight, context, scores.gate, centre, shift, stride=conv.stride[0])

    def _depthwise_in_parts(self, x: Tensor) -> Tensor:
        scale, shift = (vector.to(x.dtype)[:, None, None] for vector in affine_of(self.global_branch.norm))
        return self.conv(x) + scale * self._channel_projection(x) + shift

    def _channel_projection(self, x: Tensor) -> Tensor:
        """W_p (x + V) + b_p as a map, [B, C, h, w]. For depthwise projections."""
        scores = scores_of(x, self.global_branch.tensors())
        context = self.global_branch.channel_context(x, scores.aggregate)[:, :, None, None].to(x.dtype)
        gate, step = sampled(scores.gate, self.conv.stride)
        gates = torch.sigmoid(gate[:, :, ::step, ::step])
        gates = gates.repeat_interleave(x.shape[1] // self.global_branch.heads, 1)
        return self.global_branch.proj(x) + context * gates

    def _with_batch_statistics(self, x: Tensor) -> Tensor:
        branch = self.global_branch
        if self.depthwise:
            projected = self._channel_projection(x)
        else:
            projected = self._projection(x, torch.ones_like(branch.proj.bias), branch.proj.bias)
        return self.conv(x) + branch.norm(projected)

    def extra_repr(self) -> str:
        return f"heads={self.global_branch.heads}, depthwise={self.depthwise}, fused={self.fused}"


def why_not(conv: nn.Module, heads: int, reduction: int) -> str | None:
    """Why a module cannot be wrapped, to follow "which"; None where it can."""
    if type(conv) is not nn.Conv2d:
        return f"is a {type(conv).__name__}, wanted a plain Conv2d"
    if conv.in_channels % heads != 0:
        return f"has {conv.in_channels} input channels, wanted a multiple of the {heads} heads"
    if conv.in_channels < reduction:
        return f"has {conv.in_channels} input channels, wanted at least the reduction, {reduction}"
    if any(size % 2 == 0 for size in conv.kernel_size):
        return f"has a kernel of {conv.kernel_size}, wanted odd sizes: an even one has no centre tap"
    half = tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    if padding_of(conv) != half or conv.padding_mode != "zeros":
        return (
            f"has {conv.padding_mode} padding {conv.padding}, wanted zeros, {half}, so that its centre is on its input"
        )
    return None


def affine_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """s [O] and t [O] with norm(z) = s z + t, on running statistics."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def padding_of(conv: nn.Conv2d) -> tuple[int, int]:
    """The padding in pixels of an odd kernel, also where it is given as a word."""
    if conv.padding == "same":
        return tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    return (0, 0) if conv.padding == "valid" else tuple(conv.padding)


def is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels


def _has_depthwise_kernel(conv: nn.Conv2d) -> bool:
    rows, columns = conv.kernel_size
    return rows == columns and rows in DEPTHWISE_KERNELS and conv.dilation == (1, 1) and conv.stride in ((1, 1), (2, 2))


def compute_dtype(x: Tensor) -> torch.dtype:
    """What a convolution of x would compute in, autocast included."""
    kind = x.device.type
    if kind == "meta":  # which autocast does not know
        return x.dtype
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
