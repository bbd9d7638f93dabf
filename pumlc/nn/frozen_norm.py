"""Frozen BatchNorms in the convolutions before them: nothing is left of such a norm but other weights.

Where neither a convolution nor the BatchNorm behind it trains, and the norm is on its running statistics,

    BN(conv(x)) = s conv(x) + t,    s = weight / sqrt(running_var + eps),    t = bias - running_mean s

is one convolution with the weights s W and a bias. It saves the norm's pass over the map and, in training, what counts
more: the norm's backward pass, and the map that this keeps. Names in the state dict stay as they are.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter

import torch
from torch import Tensor, nn

from pumlc.nn.local_global import LocalGlobalConv2d, affine_of, compute_dtype


class FrozenNorm:
    """A convolution and the BatchNorm behind it, which both look here whether they are one.

    Args:
        conv: its own tensors are read at every use, so that they may be loaded, moved or set free at any time.
        norm: likewise.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        self.conv, self.norm = conv, norm
        self.active = True
        """False keeps both apart for good, as what merges the convolution in another way needs it."""
        self._made_from: tuple | None = None
        self._weights: tuple[Tensor, Tensor] | None = None

    @property
    def applies(self) -> bool:
        tensors = (self.conv.weight, self.conv.bias, self.norm.weight, self.norm.bias)
        trains = self.norm.training or any(tensor is not None and tensor.requires_grad for tensor in tensors)
        return self.active and not trains

    def weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """s W [O, C / groups, K, L] and the bias [O] of the convolution with the norm in it, in this dtype.

        They are kept until a tensor that they are made of changes.
        """
        if torch.compiler.is_compiling():
            return self._make(dtype)
        conv, norm = self.conv, self.norm
        sources = (conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        state = (dtype, *((t.data_ptr(), t._version, t.device) for t in sources if t is not None))
        if state != self._made_from:
            with torch.inference_mode(False):  # what is made for an evaluation serves training too
                self._weights = self._make(dtype)
            self._made_from = state
        return self._weights

    @torch.no_grad()
    def _make(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        scale, shift = affine_of(self.norm)
        bias = shift if self.conv.bias is None else shift + scale * self.conv.bias
        return (self.conv.weight * scale[:, None, None, None]).to(dtype), bias.to(dtype)


class NormedConv2d(nn.Conv2d):
    """A convolution that does the work of a frozen norm too.

    Args:
        conv: whose parameters it takes.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.frozen_norm: FrozenNorm | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, h, w]"""
        if self.frozen_norm is None or not self.frozen_norm.applies:
            return super().forward(x)
        x = x.to(compute_dtype(x))
        return self._conv_forward(x, *self.frozen_norm.weights(x.dtype))


class AbsorbedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that does nothing while the convolution before it does its work.

    Args:
        norm: whose parameters and buffers it takes.
        frozen_norm: says when that is so.
    """

    def __init__(self, norm: nn.BatchNorm2d, frozen_norm: FrozenNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.frozen_norm = frozen_norm

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same shape"""
        return x if self.frozen_norm.applies else super().forward(x)


def fold_frozen_norms(backbone: nn.Module, image_size: int) -> list[tuple[str, str]]:
    """Fold every frozen BatchNorm of a backbone into the convolution before it, in place.

    A pair is folded if the output of the convolution goes to the norm and nowhere else, which a pass without numbers
    shows; of backbones that cannot do one, nothing is folded. Local-global convolutions count as convolutions where
    they are one with their projection.

    Args:
        backbone: with timm's ``forward_features``; what trains has been chosen already.
        image_size: side of the images [B, 3, image_size, image_size] of that pass.

    Returns:
        The names of the convolutions and norms.
    """
    candidates = {name for name, module in backbone.named_modules() if _is_frozen(module)}
    if not any(type(backbone.get_submodule(name)) is nn.BatchNorm2d for name in candidates):
        return []
    pairs = [pair for pair in conv_norm_pairs(backbone, image_size) if candidates.issuperset(pair)]
    for conv_name, norm_name in pairs:
        conv, norm = backbone.get_submodule(conv_name), backbone.get_submodule(norm_name)
        if isinstance(conv, LocalGlobalConv2d):
            frozen_norm = conv.frozen_norm = FrozenNorm(conv.conv, norm)
        else:
            conv = NormedConv2d(conv).train(conv.training)
            frozen_norm = conv.frozen_norm = FrozenNorm(conv, norm)
            backbone.set_submodule(conv_name, conv)
        absorbed = AbsorbedBatchNorm2d(norm, frozen_norm).train(norm.training)
        frozen_norm.norm = absorbed
        backbone.set_submodule(norm_name, absorbed)
    return pairs


def _is_frozen(module: nn.Module) -> bool:
    if isinstance(module, LocalGlobalConv2d):
        return module.fused and not module.depthwise and _is_frozen(module.conv)
    if type(module) is nn.BatchNorm2d:
        complete = module.affine and module.track_running_stats
    else:
        complete = type(module) is nn.Conv2d
    return complete and not any(parameter.requires_grad for parameter in module.parameters())


def conv_norm_pairs(backbone: nn.Module, image_size: int) -> list[tuple[str, str]]:
    """The names of all convolutions whose output goes to one norm and nowhere else, and of that norm.

    Arguments and what backbones they are found in: see :func:`fold_frozen_norms`.
    """
    without_numbers = copy.deepcopy(backbone).to("meta").eval()
    made_by, taken_by = {}, {}  # autograd nodes: the convolution that an output is of, the norm that it goes to
    calls = Counter()

    def watch(name: str, module: nn.Module) -> None:
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: taken_by.update({inputs[0].grad_fn: name}))
        elif isinstance(module, nn.Conv2d | LocalGlobalConv2d):
            module.register_forward_hook(lambda _, inputs, output: made_by.update({output.grad_fn: name}))
        else:
            return
        module.register_forward_pre_hook(lambda _, inputs: calls.update([name]))

    for name, module in without_numbers.named_modules():
        watch(name, module)
    dtype = next(without_numbers.parameters()).dtype
    images = torch.empty(1, 3, image_size, image_size, dtype=dtype, device="meta", requires_grad=True)
    # an operator without a form for such a pass: other errors are errors of the network
    with contextlib.suppress(NotImplementedError), torch.enable_grad():
        uses = _uses(without_numbers.forward_features(images))
        found = [(made_by[node], norm) for node, norm in taken_by.items() if node in made_by and uses[node] == 1]
        return [pair for pair in found if all(calls[name] == 1 for name in pair)]
    return []


def _uses(output: Tensor) -> Counter:
    """How often the result of every node of a graph goes into another."""
    uses, seen, ahead = Counter(), set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        following = [after for after, _ in node.next_functions if after is not None]
        uses.update(following)
        ahead += following
    return uses
