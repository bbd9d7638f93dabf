"""Where the classes look: the maps of the model, laid over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pumlc.data.loader import EvaluationLoader
from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.engine.recogniser import Recogniser
from pumlc.errors import require

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH_SIZE = 16
COLOUR = (255, 96, 16)
_STRONGEST = 0.72  # how much of the colour covers the picture where the map is highest
_DIM = 0.45  # what is left of the picture where the map is 0


@torch.no_grad()
def class_maps(
    recogniser: Recogniser, paths: Sequence[str], device: torch.device, max_megapixels: float = MAX_MEGAPIXELS
) -> np.ndarray:
    """The maps [N, C, h, w] float32 of N readable pictures, prepared as in evaluation, so that each covers the whole.

    Raises:
        InputError: the model has no such maps.
    """
    loader = EvaluationLoader(
        paths,
        np.zeros((len(paths), len(recogniser.class_names)), np.int8),
        batch_size=min(BATCH_SIZE, len(paths)),
        image_size=recogniser.model.image_size,
        device=device,
        max_megapixels=max_megapixels,
    )
    model = recogniser.model.to(device, memory_format=torch.channels_last)
    return torch.cat([model.class_maps(batch.images).float().cpu() for batch in loader]).numpy()


def overlay(picture: Image, heat: np.ndarray) -> Image:
    """The picture, dim and grey where ``heat`` [h, w] is 0, and glowing where it is 1."""
    image = require("PIL.Image", "pillow")
    size = picture.size
    # between the middles of the positions as between those of pixels
    smooth = image.fromarray(heat.astype(np.float32)).resize(size, image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(smooth), 0, 1)[..., None]
    colours = np.asarray(picture, np.float32)
    grey = colours.mean(2, keepdims=True) * _DIM
    base = grey + (colours - grey) * strength
    glow = _STRONGEST * strength**2
    mixed = base * (1 - glow) + np.array(COLOUR, np.float32) * glow
    return image.fromarray(mixed.round().astype(np.uint8))
