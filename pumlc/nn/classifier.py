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
        self.channels_last_map = boost != 1 and self._has_channels_last_map()
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
        with torch.autocast(x.device.type, enabled=False):
            activations = self.head(x.float())  # [B, P, C]
            return torch.where(activations > 0, self.boost * activations, activations).mean(1)

    def summary(self) -> str:
        boosted = "" if self.boost == 1 else f", positive class activations x {self.boost:g}"
        return super().summary() + boosted

    @torch.no_grad()
    def _has_channels_last_map(self) -> bool:
        """Whether the last map is channels last by its shape; raises InputError where boosting it makes no sense."""
        end = find_map(self.backbone_name, self.image_size, "--boost works on", "Leave --boost away")
        x = torch.randn(end.shape, generator=torch.Generator().manual_seed(0))
        mean = x.mean((1, 2) if end.channels_last else (2, 3))
        # a norm after the pooling may be the identity as it begins, but then it has parameters
        pooled = None if end.unused else self.backbone.forward_head(x)
        if pooled is None or pooled.shape != mean.shape or not torch.allclose(pooled, mean, atol=1e-5):
            raise InputError(
                f"--boost needs a backbone whose features are the mean of its last map, but {self.backbone_name} does "
                "more after that map. Wanted is a network such as a ResNet, RegNet, EfficientNet or Swin; or leave "
                "--boost away."
            )
        return end.channels_last
