"""A backbone from timm, which of its tensors train, and what every network around one has in common."""

from __future__ import annotations

import difflib
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pumlc.errors import InputError, require
from pumlc.nn.conversion import Conversion, convert_local_global
from pumlc.nn.frozen_norm import fold_frozen_norms


class BackboneNetwork(nn.Module):
    """A backbone and room for a head; images [B, 3, H, W] to logits [B, C].

    A subclass adds ``head``, whose weight has a row for every class, and ``forward``.

    Args:
        backbone: a model name of timm, with or without a tag (``resnet101``, ``resnet101.tv_in1k``).
        image_size: side of the square input in pixels; only models of fixed input size need to know it.
        local_global: give every spatial convolution of the backbone a global branch
            (:func:`pumlc.nn.convert_local_global`).
        train_all: train every tensor. Otherwise only the last stage, every global branch and the head train, and every
            BatchNorm stays on its running statistics, as the published recipe has it.

    Raises:
        InputError: timm does not know the backbone (the message holds names that are close), or the backbone
            does not say what its last stage is and ``train_all`` is off.
    """

    head: nn.Module

    def __init__(self, backbone: str, *, image_size: int, train_all: bool, local_global: bool) -> None:
        super().__init__()
        self.backbone_name = backbone
        self.image_size = image_size
        self.train_all = train_all
        self.backbone = create_backbone(backbone, image_size)
        if not train_all:
            self._freeze_below_last_stage()
        # after the freezing, which the branches are no part of
        self.conversion = convert_local_global(self.backbone) if local_global else Conversion([], [])
        if not train_all:
            fold_frozen_norms(self.backbone, image_size)

    @property
    def num_classes(self) -> int:
        return len(self.head.weight)

    def train(self, mode: bool = True) -> BackboneNetwork:
        """As ``nn.Module.train``, but BatchNorms stay in evaluation mode unless everything trains."""
        super().train(mode)
        if not self.train_all:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def moving_buffers(self) -> list[Tensor]:
        """Running means and variances that change while training; empty when the BatchNorms are frozen."""
        if not self.train_all:
            return []
        norms = (module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        return [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]

    def summary(self) -> str:
        """One line for the person at the console."""
        total = sum(p.numel() for p in self.parameters())
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        branches = f", {self.conversion}" if self.conversion.wrapped else ""
        return (
            f"model: {self.backbone_name}, {total / 1e6:.1f} M parameters, {trained / 1e6:.1f} M of them trained"
            f"{branches}"
        )

    def _freeze_below_last_stage(self) -> None:
        """Leave gradients to the last stage and to what the backbone registers after it (its final norm)."""
        stages = getattr(self.backbone, "feature_info", None)
        stage = stages[-1]["module"] if stages else None
        names = [name for name, _ in self.backbone.named_parameters()]
        first = next((i for i, name in enumerate(names) if stage and name.startswith(f"{stage}.")), None)
        if first is None:
            raise InputError(
                f"The backbone {self.backbone_name} does not say what its last stage is, "
                "so the layers below cannot be frozen. Use --train-all, or another backbone."
            )
        for parameter in list(self.backbone.parameters())[:first]:
            parameter.requires_grad_(False)


def create_backbone(name: str, image_size: int, **options: object) -> nn.Module:
    """The backbone ``name`` of timm without its classifier: [B, 3, H, W] -> [B, F].

    ``options`` go to ``timm.create_model``; without any the weights are random.
    """
    timm = require("timm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4, cutoff=0.5)
        hint = f"Near names: {', '.join(near)}." if near else "timm.list_models() names them all."
        raise InputError(f"Unknown backbone {name!r}. {hint}")
    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that timm does not have for this model
        tagged = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*"))
        raise InputError(f"Unknown backbone {name!r}: {error} There are: {tagged}.") from error
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(name, num_classes=0, **options)


class FeatureMap(NamedTuple):
    """What a backbone's last feature map is like, and which parameters have no part in it."""

    channels: int
    channels_last: bool  # [B, H, W, channels] by its shape, as Swin transformers have it
    shape: torch.Size  # of two images
    unused: frozenset[str]


@torch.enable_grad()
def find_map(name: str, image_size: int, use: str, way_out: str) -> FeatureMap:
    """Found by a forward and backward pass without numbers.

    Args:
        name, image_size: of the backbone, as in :class:`BackboneNetwork`.
        use, way_out: what the map is wanted for, and what to do without one, for the person at the console.

    Raises:
        InputError: the backbone ends in something other than a map, such as the tokens of a ViT.
    """
    with torch.device("meta"):
        backbone = create_backbone(name, image_size)
        images = torch.empty(2, 3, image_size, image_size)
    x = backbone.forward_features(images)
    if not isinstance(x, Tensor) or x.ndim != 4:
        raise InputError(
            f"The backbone {name} ends in no feature map, which {use}: wanted a network such as a ResNet, "
            f"EfficientNet or Swin. {way_out}, or another backbone."
        )
    x.sum().backward()
    unused = frozenset(name for name, parameter in backbone.named_parameters() if parameter.grad is None)
    channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    return FeatureMap(x.shape[3 if channels_last else 1], channels_last, x.shape, unused)
