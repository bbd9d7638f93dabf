"""The DALI graphs against Pillow: same region, same orientation, same colours."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from photos import CLOSE, difference, grey_levels, on_each_device, photo, write_photos
from PIL import Image, ImageOps

from pumlc.data.pipeline import evaluation_pipeline, train_pipeline

SIZE = 96


def run(build, device, inputs, dtype=torch.float32):
    """One batch, [B, 3, SIZE, SIZE], of file names and what else the graph takes."""
    names, *rest = inputs
    batch = [np.frombuffer(os.fsencode(name), dtype=np.uint8) for name in names], *rest
    pipeline = build(
        lambda: batch,
        batch_size=len(names),
        image_size=SIZE,
        dtype=dtype,
        device=torch.device(device),
        threads=2,
        prefetch=1,
        hw_decoder_load=0.0,
    )
    (output,) = pipeline.run()
    return torch.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2)


@on_each_device
@pytest.mark.parametrize("mirror", [0, 1])
@pytest.mark.parametrize(
    "region",
    [(0, 0, 1, 1), (0.25, 0.5, 0.75, 1), (0.1, 0.2, 0.35, 0.45)],
    ids=["whole", "half", "quarter"],  # scaled down, about kept, scaled up
)
def test_region_is_resampled_once(tmp_path, device, region, mirror):
    path = tmp_path / "photo.jpg"
    photo(1, 200, 140).save(path, quality=95)
    top, left, bottom, right = region
    images = run(
        train_pipeline,
        device,
        ([path], np.float32([[top, left]]), np.float32([[bottom, right]]), np.int32([mirror])),
    )
    box = (left * 200, top * 140, right * 200, bottom * 140)
    reference = Image.open(path).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    if mirror:
        reference = ImageOps.mirror(reference)
    assert difference(grey_levels(images)[0], reference) < CLOSE
    assert difference(grey_levels(images)[0], ImageOps.mirror(reference)) > 10 * CLOSE


@on_each_device
def test_close_to_the_published_two_resamples(tmp_path, device):
    """Resize to 512, crop 320 at (53, 90), resize: a region of the source but for the blur of a second resample."""
    path = tmp_path / "photo.jpg"
    photo(2, 640, 480).save(path, quality=95)
    start, end = np.float32([[53, 90]]) / 512, np.float32([[373, 410]]) / 512
    images = run(train_pipeline, device, ([path], start, end, np.int32([0])))
    square = Image.open(path).resize((512, 512), Image.Resampling.BICUBIC)
    reference = square.crop((90, 53, 410, 373)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert difference(grey_levels(images)[0], reference) < CLOSE


@on_each_device
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, device, orientation):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(3).save(path, quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    whole = run(evaluation_pipeline, device, ([path],))
    assert difference(grey_levels(whole)[0], upright.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) < CLOSE

    start, end = np.float32([[0, 0.5]]), np.float32([[0.5, 1]])
    corner = run(train_pipeline, device, ([path], start, end, np.int32([0])))
    box = (upright.width / 2, 0, upright.width, upright.height / 2)
    reference = upright.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
    assert difference(grey_levels(corner)[0], reference) < CLOSE


@on_each_device
@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}], ids=str)
def test_every_kind_of_jpeg_comes_out_rgb(tmp_path, device, mode, options):
    path = tmp_path / "photo.jpg"
    photo(4).convert(mode).save(path, quality=95, **options)
    images = run(evaluation_pipeline, device, ([path],))
    reference = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert images.shape == (1, 3, SIZE, SIZE)
    assert difference(grey_levels(images)[0], reference) < CLOSE


@on_each_device
def test_a_png_in_disguise_is_read(tmp_path, device):
    path = tmp_path / "photo.jpg"
    photo(5).save(path, format="PNG")
    images = run(evaluation_pipeline, device, ([path],))
    assert difference(grey_levels(images)[0], photo(5).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) < CLOSE


@on_each_device
def test_normalisation(tmp_path, device):
    path = tmp_path / "plain.png"
    Image.new("RGB", (20, 30), (255, 0, 51)).save(path)
    images = run(evaluation_pipeline, device, ([path],))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(images.cpu().amax((0, 2, 3)), torch.tensor(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.cpu().amin((0, 2, 3)), torch.tensor(expected), atol=1e-4, rtol=0)


@on_each_device
def test_half_precision_is_the_rounded_single(tmp_path, device):
    paths = write_photos(tmp_path, 3)
    single = run(evaluation_pipeline, device, (paths,))
    half = run(evaluation_pipeline, device, (paths,), dtype=torch.float16)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, single.half(), atol=0, rtol=2**-10)


def test_file_names_in_any_alphabet(tmp_path):
    path = tmp_path / "фото 写真 é.jpg"
    photo(6).save(path, quality=95)
    images = run(evaluation_pipeline, "cpu", ([path],))
    assert difference(grey_levels(images)[0], Image.open(path).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) < CLOSE
