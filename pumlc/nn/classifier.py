"""A backbone from timm and one linear unit per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc.errors import InputError
from pumlc.nn.backbone import BackboneNetwork, find_map


class Classifier(BackboneNetwork):
    """Images [B, 3, H, W] to logits [B, C].

    The head runs in float32 under autocast too: bf16 logits carry eight bits, which ties images in the ranking
    that mAP is made of.

    With ``boost``, the logits are those of BoostLU (arXiv 2304.01804), which makes up for activations that are too low
    after training with positives taken for negatives. The unit of a class is applied at every position x of the
    backbone's last map, which gives its class activation map, before the mean is taken instead of after::

        logit = mean over positions of f(w x + b),    f(v) = boost v where v > 0, else v

    As in the published code, it is so from the first step on and in evaluation alike. Without it, f is the identity,
    and the order does not matter: the state dict is the same, and either network can begin with the weights of the
    other.

    Args:
        backbone, image_size, train_all, local_global: as in :class:`~pumlc.nn.backbone.BackboneNetwork`.
        num_classes: C.
        boost: published 5; 1 for none.

    Raises:
        InputError: as there; or with ``boost``, the backbone ends in no feature map, or its features are not the mean
            of one.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        image_size: int = 448,
        train_all: bool = False,
        local_global: bool = False,
        boost: float = 1.0,
    ) -> None:
        super().__init__(backbone, image_size=image_size, train_all=train_all, local_global=local_global)
        self.boost = boost
        self.channels_last_map = boost != 1 and self._has_channels_last_map("--boost", "Leave --boost away")
        self.head = nn.Linear(
            getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features, num_classes
        )

    def forward(self, images: Tensor) -> Tensor:
        if self.boost == 1:
            features = self.backbone(images)  # [B, F]
            with torch.autocast(features.device.type, enabled=False):
                return self.head(features.float())
        x = self.backbone.forward_features(images)  # [B, F, h, w], or [B, h, w, F]
        x = x.flatten(1, 2) if self.channels_last_map else x.flatten(2).mT  # [B, P, F]
        return self._activations(x).mean(1)

    def class_maps(self, images: Tensor) -> Tensor:
        """Class activation maps, images [B, 3, H, W] -> [B, C, h, w], each with the logit of its class as its mean.

        Raises:
            InputError: the backbone ends in no feature map, or its features are not the mean of one.
        """
        channels_last = self._has_channels_last_map("a class activation map", "Use --head full")
        x = self.backbone.forward_features(images)
        x = x if channels_last else x.permute(0, 2, 3, 1)  # [B, h, w, F]
        return self._activations(x.flatten(1, 2)).mT.unflatten(2, x.shape[1:3])

    def _activations(self, x: Tensor) -> Tensor:
        """The positions of the last map [B, P, F] -> [B, P, C], whose mean over the positions is the logit."""
        with torch.autocast(x.device.type, enabled=False):
            activations = self.head(x.float())
            return torch.where(activations > 0, self.boost * activations, activations)

    def summary(self) -> str:
        boosted = "" if self.boost == 1 else f", positive class activations x {self.boost:g}"
        return super().summary() + boosted

    @torch.no_grad()
    def _has_channels_last_map(self, user: str, way_out: str) -> bool:
        """Whether the last map is channels last by its shape.

        Args:
            user, way_out: what needs the map, and what to do without it, for the person at the console.

        Raises:
            InputError: there is no map, or the features are not the mean of it.
        """
        end = find_map(self.backbone_name, self.image_size, f"{user} works on", way_out)
        x = torch.randn(end.shape, generator=torch.Generator().manual_seed(0))
        mean = x.mean((1, 2) if end.channels_last else (2, 3))
        # a norm after the pooling may be the identity as it begins, but then it has parameters
        head = self.backbone.forward_head
        pooled = None if end.unused else head(x.to(next(self.parameters()).device)).cpu()
        if pooled is None or pooled.shape != mean.shape or not torch.allclose(pooled, mean, atol=1e-5):
            raise InputError(
                f"{user[0].upper()}{user[1:]} needs a backbone whose features are the mean of its last map, but "
                f"{self.backbone_name} does more after that map. Wanted is a network such as a ResNet, RegNet, "
                f"EfficientNet or Swin. {way_out}."
            )
        return end.channels_last
