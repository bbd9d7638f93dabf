"""The operators: functions of tensors, with CPU and CUDA kernels behind them. They need torch alone."""

from pumlc.ops._library import build_info
from pumlc.ops.attention_pool import attention_pool
from pumlc.ops.depthwise import depthwise_conv2d, depthwise_local_global
from pumlc.ops.elementwise_loss import elementwise_loss
from pumlc.ops.gated_broadcast_add import gated_broadcast_add
from pumlc.ops.large_loss import large_loss
from pumlc.ops.loss_kinds import LOSS_KINDS
from pumlc.ops.mixup_consistency import mixup_consistency
from pumlc.ops.operators import operators
from pumlc.ops.pu_loss import PuStatistics, pu_loss, pu_statistics
from pumlc.ops.semantic_attention import semantic_attention

__all__ = [
    "LOSS_KINDS",
    "PuStatistics",
    "attention_pool",
    "build_info",
    "depthwise_conv2d",
    "depthwise_local_global",
    "elementwise_loss",
    "gated_broadcast_add",
    "large_loss",
    "mixup_consistency",
    "operators",
    "pu_loss",
    "pu_statistics",
    "semantic_attention",
]
