"""Local-global convolutions in place of a network's own, and their merged form for inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from pumlc.nn.fused_local_global import FusedLocalGlobalConv2d
from pumlc.nn.local_global import DEPTHWISE_KERNELS, LocalGlobalConv2d, is_depthwise, why_not


class Conversion(NamedTuple):
    """What :func:`convert_local_global` did."""

    wrapped: list[str]
    """Names of the convolutions, as ``model.named_modules()`` had them."""
    skipped: list[tuple[str, str]]
    """Names of those that were chosen and could not be wrapped, and why."""

    def __str__(self) -> str:
        text = f"{len(self.wrapped)} convolutions with a global branch"
        return f"{text}, {len(self.skipped)} left as they are" if self.skipped else text


def is_spatial(conv: nn.Conv2d) -> bool:
    """The convolutions that are wrapped by default: dense 3 x 3, depthwise K x K with K of 3, 5 or 7."""
    rows, columns = conv.kernel_size
    return rows == columns and (rows == 3 if conv.groups == 1 else is_depthwise(conv) and rows in DEPTHWISE_KERNELS)


def convert_local_global(
    model: nn.Module,
    heads: int = 8,
    reduction: int = 4,
    *,
    predicate: Callable[[nn.Conv2d], bool] = is_spatial,
    dense_projections: bool = False,
) -> Conversion:
    """Wrap every spatial convolution of a model in a :class:`LocalGlobalConv2d`, in place.

    Load pretrained weights first: a wrapped ``conv2`` has its weights under ``conv2.conv``.

    Args:
        model: any module; ResNets, ConvNeXts, EfficientNets and MobileNets of timm among them.
        heads, reduction, dense_projections: of :class:`LocalGlobalConv2d`.
        predicate: chooses the convolutions.

    Returns:
        What was wrapped, and what could not be.
    """
    wrapped, skipped = [], []
    for name, module in list(model.named_modules()):
        inside = any(isinstance(model.get_submodule(parent), LocalGlobalConv2d) for parent in _parents(name))
        if not isinstance(module, nn.Conv2d) or inside or not predicate(module):
            continue
        if reason := why_not(module, heads, reduction):
            skipped.append((name, reason))
            continue
        wrapper = LocalGlobalConv2d(module, heads, reduction, dense_projections=dense_projections)
        _replace(model, name, wrapper.train(module.training))
        wrapped.append(name)
    return Conversion(wrapped, skipped)


def fuse_local_global(model: nn.Module) -> nn.Module:
    """The inference form of a model, in place: every :class:`LocalGlobalConv2d` becomes one convolution, its BatchNorm
    and its projection merged into the weights, and what the image says beside it. The outputs are those of the model
    in evaluation mode; nothing in it trains any more. It can be exported.

    Returns:
        The model; its fused form itself where the model is a :class:`LocalGlobalConv2d`.
    """
    if isinstance(model, LocalGlobalConv2d):
        return FusedLocalGlobalConv2d(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, LocalGlobalConv2d):
            _replace(model, name, FusedLocalGlobalConv2d(module))
    return model


def _parents(name: str) -> list[str]:
    """Names of the modules that hold the one of this name, the model itself ("") among them."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))] if name else []


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
