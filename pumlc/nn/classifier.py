"""A backbone from timm and one linear unit per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pumlc.nn.backbone import BackboneNetwork


class Classifier(BackboneNetwork):
    """Images [B, 3, H, W] to logits [B, C].

    The head runs in float32 under autocast too: bf16 logits carry eight bits, which ties images in the ranking
    that mAP is made of.

    Args:
        backbone, image_size, train_all, local_global: as in :class:`~pumlc.nn.backbone.BackboneNetwork`.
        num_classes: C.

    Raises:
        InputError: as there.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        *,
        image_size: int = 448,
        train_all: bool = False,
        local_global: bool = False,
    ) -> None:
        super().__init__(backbone, image_size=image_size, train_all=train_all, local_global=local_global)
        self.head = nn.Linear(
            getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features, num_classes
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)  # [B, F]
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float())
