"""The inference form of a local-global convolution: every weight that can be merged is merged, once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, relu

from pumlc import ops
from pumlc.nn.folded_conv import fold
from pumlc.nn.local_global import LocalGlobalConv2d, affine_of, compute_dtype, padding_of


class FusedLocalGlobalConv2d(nn.Module):
    """What a :class:`LocalGlobalConv2d` computes in evaluation mode, for inference and export.

    Its tensors are buffers: ``weight`` (the projection in its centre tap, where it can be folded), ``bias``, and those
    that make the scores and the context. Exported graphs hold plain PyTorch operators alone.
    """

    def __init__(self, module: LocalGlobalConv2d) -> None:
        super().__init__()
        conv, branch = module.conv, module.global_branch
        if module.frozen_norm is not None:
            module.frozen_norm.active = False
        self.depthwise = module.depthwise
        self.fused = module.fused
        self.heads = branch.heads
        self.stride, self.padding = conv.stride, padding_of(conv)
        self.dilation, self.groups = conv.dilation, conv.groups
        with torch.no_grad():
            scale, shift = affine_of(branch.norm)
            width = branch.reduction.out_channels
            shift = scale * branch.proj.bias + shift
            if conv.bias is not None:
                shift = shift + conv.bias
            projection = scale[:, None] * branch.proj.weight.flatten(1)  # [O, C], or [C, 1] where depthwise
            if self.fused:
                self.register_buffer("weight", fold(conv.weight, projection))
            else:
                self.register_buffer("weight", conv.weight.clone())
                self.register_buffer("projection", projection[:, :, None, None].clone())
            self.register_buffer("shift", shift)
            self.register_buffer("reduction_weight", branch.reduction.weight.clone())
            self.register_buffer("reduction_bias", branch.reduction.bias.clone())
            scores = torch.cat([branch.agg_attn.weight[:, :width], branch.broad_attn.weight[:, :width]])
            self.register_buffer("scores_weight", scores)
            self.register_buffer("gate_weight", branch.broad_attn.weight[:, width:].clone())
            self.register_buffer("gate_bias", branch.broad_attn.bias.clone())
            if self.depthwise:
                merged = projection[:, 0]
                self.register_buffer("context_weight", merged * branch.v.weight.flatten())  # [C]
                self.register_buffer("context_bias", merged * branch.v.bias)
            else:
                heads = projection.unflatten(1, (self.heads, -1)).transpose(0, 1)  # [K, O, C / K]
                values = branch.v.weight.unflatten(0, (self.heads, -1)).flatten(2)  # [K, C / K, C]
                self.register_buffer("value_weight", values.clone())
                self.register_buffer("value_bias", branch.v.bias.unflatten(0, (self.heads, -1)).clone())
                self.register_buffer("head_projection", heads.contiguous())

    @torch.no_grad()
    def absorb(self, norm: nn.BatchNorm2d) -> None:
        """Take over what a BatchNorm on running statistics, which alone sees the outputs, does to them."""
        scale, shift = affine_of(norm)  # [O]
        self.weight *= scale[:, None, None, None]
        self.shift.mul_(scale).add_(shift)
        if not self.fused:
            self.projection *= scale[:, None, None, None]
        if self.depthwise:
            self.context_weight *= scale
            self.context_bias *= scale
        else:
            self.head_projection *= scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, H / stride, W / stride]."""
        op = ops.operators()
        x = x.to(compute_dtype(x))
        local = relu(conv2d(x, self.reduction_weight, self.reduction_bias))
        aggregate, gate = conv2d(local, self.scores_weight).split(self.heads, 1)
        gate = gate + conv2d(local.mean((2, 3), keepdim=True), self.gate_weight, self.gate_bias)
        aggregate, gate = aggregate.to(x.dtype), gate.to(x.dtype)
        stride = self.stride[0]
        if self.stride[0] != self.stride[1]:
            gate, stride = gate[:, :, :: self.stride[0], :: self.stride[1]], 1
        if self.depthwise:
            context = self.context_weight * op.attention_pool(x, aggregate, grouped=True) + self.context_bias
            if self.fused:
                none = torch.zeros_like(self.shift)
                return op.depthwise_local_global(x, self.weight, context, gate, none, self.shift, stride=stride)
            y = self._conv(x) + conv2d(x, self.projection, stride=self.stride, groups=self.groups)
            gates = torch.sigmoid(gate[:, :, ::stride, ::stride]).repeat_interleave(x.shape[1] // self.heads, 1)
            return y + context[:, :, None, None] * gates + self.shift[:, None, None]
        u = torch.einsum("bkc,kdc->bkd", op.attention_pool(x, aggregate), self.value_weight) + self.value_bias
        context = torch.einsum("kod,bkd->bok", self.head_projection, u)
        y = self._conv(x)
        if not self.fused:
            y = y + conv2d(x, self.projection, stride=self.stride)
        return op.gated_broadcast_add(y, context, gate, torch.ones_like(self.shift), self.shift, stride=stride)

    def _conv(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
