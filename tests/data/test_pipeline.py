"""The DALI graphs against Pillow: same region, same orientation, same colours."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pumlc.data.pipeline import image_pipeline, region_pipeline
from tests.data.photos import CLOSE, difference, grey_levels, on_each_device, photo, pillow_region, write_photos

SIZE = 96
WHOLE = ((0, 0), (1, 1))


def run(build, paths, device, *, region=WHOLE, mirror=0, **options):
    """The output for one batch: the same region of each file."""
    names = [np.frombuffer(os.fsencode(path), dtype=np.uint8) for path in paths]
    start, end = (np.tile(np.float32(edge), (len(paths), 1)) for edge in region)
    known = np.zeros(len(paths), dtype=bool)
    batch = names, known, start, end, np.full(len(paths), mirror, dtype=np.int32)
    pipeline = build(
        lambda: batch, batch_size=len(paths), device=torch.device(device), threads=2, prefetch=1, **options
    )
    (output,) = pipeline.run()
    return output


def finished(paths, device, *, dtype=torch.float32, **region) -> torch.Tensor:
    """[B, 3, SIZE, SIZE], by DALI alone. Without a GPU this runs the graph of a GPU on the CPU."""
    output = run(image_pipeline, paths, device, image_size=SIZE, dtype=dtype, **region)
    return torch.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2)


def decoded(path, device, **region) -> np.ndarray:
    """[h, w, 3] uint8."""
    return torch.from_dlpack(run(region_pipeline, [path], device, **region)[0]).cpu().numpy()


@on_each_device
@pytest.mark.parametrize("mirror", [0, 1])
@pytest.mark.parametrize(
    "region",
    [WHOLE, ((0.25, 0.5), (0.75, 1)), ((0.1, 0.2), (0.351, 0.449))],
    ids=["whole", "half", "quarter"],  # scaled down, about kept, scaled up
)
def test_regions(tmp_path, device, region, mirror):
    path = tmp_path / "photo.jpg"
    photo(1, 200, 140).save(path, quality=95)
    picture = Image.open(path)
    image = grey_levels(finished([path], device, region=region, mirror=mirror))[0]
    assert difference(image, pillow_region(picture, *region, SIZE, mirror)) < CLOSE
    assert difference(image, pillow_region(picture, *region, SIZE, not mirror)) > 10 * CLOSE


@on_each_device
@pytest.mark.parametrize("mirror", [0, 1])
def test_decoded_regions_are_whole_pixels_of_the_picture(tmp_path, device, mirror):
    path = tmp_path / "photo.jpg"
    photo(1, 161, 121).save(path, quality=95)
    region = ((0.2, 0.11), (0.7, 0.61))  # rows 24.2 to 84.7, columns 17.7 to 98.2
    expected = Image.open(path).crop((18, 24, 98, 85))
    pixels = decoded(path, device, region=region, mirror=mirror)
    assert pixels.shape == (61, 80, 3)
    assert difference(pixels, ImageOps.mirror(expected) if mirror else expected) < CLOSE


@on_each_device
def test_close_to_the_published_two_resamples(tmp_path, device):
    """Resize to 512, crop 320 at (48, 92), resize: a region of the source but for the blur of a second resample.

    The place is one where the region's edges are whole pixels of the source; elsewhere they are rounded to them.
    """
    path = tmp_path / "photo.jpg"
    photo(2, 640, 480).save(path, quality=95)
    image = finished([path], device, region=((48 / 512, 92 / 512), (368 / 512, 412 / 512)))
    square = Image.open(path).resize((512, 512), Image.Resampling.BICUBIC)
    reference = square.crop((92, 48, 412, 368)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert difference(grey_levels(image)[0], reference) < CLOSE


@on_each_device
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, device, orientation):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(3).save(path, quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    for region in (WHOLE, ((0, 0.5), (0.5, 1))):
        image = grey_levels(finished([path], device, region=region))[0]
        assert difference(image, pillow_region(upright, *region, SIZE)) < CLOSE


@on_each_device
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}], ids=str)
def test_every_kind_of_jpeg_comes_out_rgb(tmp_path, device, mode, options):
    path = tmp_path / "photo.jpg"
    photo(4).convert(mode).save(path, quality=95, **options)
    assert difference(decoded(path, device), Image.open(path).convert("RGB")) < CLOSE


@on_each_device
def test_a_png_in_disguise_is_read(tmp_path, device):
    path = tmp_path / "photo.jpg"
    photo(5).save(path, format="PNG")
    assert difference(decoded(path, device), photo(5)) == 0


@on_each_device
def test_normalisation(tmp_path, device):
    path = tmp_path / "plain.png"
    Image.new("RGB", (20, 30), (255, 0, 51)).save(path)
    images = finished([path], device).cpu()
    expected = torch.tensor([(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(images.amax((0, 2, 3)), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(images.amin((0, 2, 3)), expected, atol=1e-4, rtol=0)


@on_each_device
def test_half_precision_is_the_rounded_single(tmp_path, device):
    paths = write_photos(tmp_path, 3)
    single, half = (finished(paths, device, dtype=dtype) for dtype in (torch.float32, torch.float16))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, single.half(), atol=0, rtol=2**-10)


def test_file_names_in_any_alphabet(tmp_path):
    path = tmp_path / "фото 写真 é.jpg"
    photo(6).save(path, quality=95)
    assert difference(decoded(path, "cpu"), Image.open(path)) < CLOSE
