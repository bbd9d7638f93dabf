"""The CPU's resize against Pillow, and its normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pumlc.data.resample import Resampler
from tests.data.photos import CLOSE, difference, grey_levels, photo

SIZE = 48


def pixels(width: int, height: int) -> torch.Tensor:
    return torch.from_numpy(np.array(photo(width, width, height)))


@pytest.mark.parametrize(("width", "height"), [(160, 120), (48, 48), (31, 77), (640, 20), (1, 1)])
def test_resize_is_that_of_pillow(width, height):
    region = pixels(width, height)
    (image,) = grey_levels(Resampler(SIZE, torch.float32, threads=1)([region]))
    reference = Image.fromarray(region.numpy()).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert difference(image, reference) < CLOSE / 2


def test_regions_of_any_size_keep_their_places():
    regions = [pixels(20 + 7 * number, 90 - 5 * number) for number in range(9)]
    together = Resampler(SIZE, torch.float32, threads=3)(regions)
    alone = Resampler(SIZE, torch.float32, threads=1)
    assert together.shape == (9, 3, SIZE, SIZE)
    assert together.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(image[None], alone([region])) for image, region in zip(together, regions, strict=True))


def test_normalisation():
    region = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(10, 12, 3).contiguous()
    image = Resampler(SIZE, torch.float32, threads=1)([region])
    expected = torch.tensor([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(image, expected[:, None, None].expand_as(image), atol=1e-6, rtol=0)


def test_half_precision_is_the_rounded_single():
    single, half = (Resampler(SIZE, dtype, threads=2)([pixels(60, 50)]) for dtype in (torch.float32, torch.float16))
    assert half.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(half, single.half())
