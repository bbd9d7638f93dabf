"""What TrainLoader is measured against: Pillow and torchvision transforms in worker processes, the usual way."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812

from pumlc.data.augmentation import Augmentation, EpochPlan
from pumlc.data.pipeline import MEAN, STD


class PillowDataset(Dataset):
    """The augmentation as published, for the regions of a plan: resize all, crop, resize again, flip, normalise.

    With ``one_resample`` the region is cut out of the source and resized once instead, as TrainLoader does it.
    """

    def __init__(self, paths: list[Path], augmentation: Augmentation, plan: EpochPlan, *, one_resample: bool) -> None:
        self.paths = paths
        self.augmentation = augmentation
        self.plan = plan
        self.one_resample = one_resample

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.paths[row]) as file:
            image = file.convert("RGB")
        size, scale = self.augmentation.image_size, self.augmentation.scale_size
        (top, left), (bottom, right) = self.plan.start[row], self.plan.end[row]
        if self.one_resample:
            edges = (left * image.width, top * image.height, right * image.width, bottom * image.height)
            image = image.crop([int(edge + 0.5) for edge in edges]).resize((size, size), Image.Resampling.BICUBIC)
        else:
            image = F.resize(image, [scale, scale], InterpolationMode.BICUBIC)
            edges = (round(float(edge) * scale) for edge in (top, left, bottom - top, right - left))
            image = F.resize(F.crop(image, *edges), [size, size], InterpolationMode.BICUBIC)
        if self.plan.mirror[row]:
            image = F.hflip(image)
        return F.normalize(F.to_tensor(image), MEAN, STD)


def pillow_loader(dataset: PillowDataset, *, batch_size: int, workers: int) -> DataLoader:
    """Batches in the plan's order, from workers that stay alive between epochs."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=dataset.plan.order.tolist(),
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
    )
