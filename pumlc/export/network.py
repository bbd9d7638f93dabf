"""What is exported: pixels in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pumlc.data.pipeline import MEAN, STD
from pumlc.engine.recogniser import Recogniser
from pumlc.nn.inference_form import inference_form


class ExportedNetwork(nn.Module):
    """A recogniser in its inference form, with all that evaluation does to decoded pictures and to logits.

    Pictures are resized to the square of the model by the same antialiased bicubic filter, rounded to whole grey levels
    and normalised. Pictures that have the size of that square stay as they are: whoever has pictures of several sizes
    resizes them by Pillow (``resize(…, Image.Resampling.BICUBIC)``), which does the same, and stacks them.

    Args:
        recogniser: on the CPU; its model is merged in place.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.model = inference_form(recogniser.model)
        self.calibration = recogniser.calibration
        self.image_size = recogniser.model.image_size
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.register_buffer("scale", (1 / (255 * std))[:, None, None])  # [3, 1, 1]
        self.register_buffer("shift", (-mean / std)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images [B, H, W, 3] uint8, RGB and upright -> probabilities [B, C] and their calibrated logits [B, C]."""
        side = self.image_size
        pixels = interpolate(images.permute(0, 3, 1, 2), (side, side), mode="bicubic", antialias=True)
        logits = self.calibration(self.model(pixels.float() * self.scale + self.shift))
        return logits.sigmoid(), logits
