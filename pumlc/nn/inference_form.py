"""The inference form of a network: every weight that can be merged is merged, once."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pumlc.errors import require
from pumlc.nn.backbone import BackboneNetwork
from pumlc.nn.conversion import fuse_local_global
from pumlc.nn.frozen_norm import conv_norm_pairs
from pumlc.nn.fused_local_global import FusedLocalGlobalConv2d
from pumlc.nn.recogniser import PUMLC


def inference_form(model: BackboneNetwork) -> BackboneNetwork:
    """Merge global branches and BatchNorms into the convolutions of a network, in place.

    Logits are those of evaluation mode up to rounding. The names of what is left in the state dict are kept; nothing
    trains any more. A BatchNorm stays where another layer than one convolution stands before it. What is merged
    already stays as it is.

    Args:
        model: in evaluation mode, made with ``train_all``: frozen norms of others work inside their convolutions.

    Returns:
        The model.
    """
    if not model.train_all:
        raise ValueError("model: got one with frozen norms, wanted one made with train_all=True")
    pairs = [(f"backbone.{conv}", f"backbone.{norm}") for conv, norm in _pairs_of(model.backbone, model.image_size)]
    if isinstance(model, PUMLC) and isinstance(model.narrow[1], nn.BatchNorm2d):
        pairs.append(("narrow.0", "narrow.1"))
    fuse_local_global(model)
    for conv_name, norm_name in pairs:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        if isinstance(conv, FusedLocalGlobalConv2d):
            conv.absorb(norm)
        else:
            model.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        model.set_submodule(norm_name, _behind(norm))
    return model.eval().requires_grad_(False)


def _pairs_of(backbone: nn.Module, image_size: int) -> list[tuple[str, str]]:
    pairs = conv_norm_pairs(backbone, image_size)
    return [(conv, norm) for conv, norm in pairs if _behind(backbone.get_submodule(norm)) is not None]


def _behind(norm: nn.BatchNorm2d) -> nn.Module | None:
    """What is left of a norm without its normalisation; None where it cannot do without."""
    complete = norm.affine and norm.track_running_stats
    if complete and type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    if complete and type(norm) is require("timm.layers", "timm").BatchNormAct2d:
        return norm.act
    return None
