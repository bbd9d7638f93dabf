"""The DALI graphs: file names and regions in, images out. Nothing here knows labels, epochs or ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pumlc.data.jpeg import END, START, TAIL
from pumlc.data.picture import MAX_MEGAPIXELS
from pumlc.errors import require

if TYPE_CHECKING:
    from nvidia.dali import Pipeline
    from nvidia.dali.pipeline import DataNode

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, on a scale of 0 to 1."""
STD = (0.229, 0.224, 0.225)
"""Their standard deviation."""


def region_pipeline(
    source: Callable,
    *,
    device: torch.device,
    hw_decoder_load: float = 0.0,
    max_megapixels: float = MAX_MEGAPIXELS,
    **options,
) -> Pipeline:
    """Read, decode a region of each image, mirror it.

    Args:
        source: called for every batch, from the thread that runs the pipeline. Returns B file names (uint8 arrays),
            flags ([B] bool) of those that are known to be whole, the regions' starts and ends ([B, 2] float32,
            vertical first, as shares of the upright image; rounded to whole pixels) and the mirror flags ([B] int32);
            raises StopIteration at the end.
        device: where images are decoded and come out. On a CPU nothing of CUDA is touched.
        hw_decoder_load: share of the JPEGs decoded by the GPU's JPEG engine, where it has one. That engine and the
            CUDA decoder differ in a few pixel values and share the work by load: 0 makes runs reproducible.
        max_megapixels: an image whose header claims more fails before anything is allocated for it. So does a JPEG
            without its end, whatever region of it is wanted, unless it is known to be whole.
        options: ``batch_size``, the most images in a batch; ``threads`` that read and decode; ``prefetch``, the
            batches in the pipeline at a time, the one handed out included.

    Returns:
        A pipeline with one output: B images [h, w, 3] uint8, RGB, upright by EXIF, each of its own size.
    """

    def graph(fn, types) -> DataNode:
        regions, mirror = _regions(fn, types, source, device, hw_decoder_load, max_megapixels)
        return fn.flip(regions, horizontal=mirror)

    return _pipeline(graph, device=device, **options)


def image_pipeline(
    source: Callable,
    *,
    image_size: int,
    dtype: torch.dtype,
    device: torch.device,
    hw_decoder_load: float = 0.0,
    max_megapixels: float = MAX_MEGAPIXELS,
    **options,
) -> Pipeline:
    """As ``region_pipeline``, then resize to ``image_size`` x ``image_size`` and normalise.

    Returns:
        A pipeline with one output: [B, image_size, image_size, 3] of ``dtype``, torch.float32 or torch.float16.
    """

    def graph(fn, types) -> DataNode:
        regions, mirror = _regions(fn, types, source, device, hw_decoder_load, max_megapixels)
        # Cubic, widened when it scales down: within rounding of Pillow's BICUBIC.
        images = fn.resize(regions, size=[image_size, image_size], interp_type=types.INTERP_CUBIC, antialias=True)
        return fn.crop_mirror_normalize(
            images,
            dtype={torch.float32: types.FLOAT, torch.float16: types.FLOAT16}[dtype],
            output_layout="HWC",  # seen as [B, 3, H, W] this is channels_last, without a transpose
            mean=[255 * mean for mean in MEAN],
            std=[255 * std for std in STD],
            mirror=mirror,
        )

    return _pipeline(graph, device=device, **options)


def _regions(
    fn, types, source: Callable, device: torch.device, hw_decoder_load: float, max_megapixels: float
) -> tuple[DataNode, DataNode]:
    """The decoded regions and the mirror flags."""
    names, is_whole, start, end, mirror = fn.external_source(
        source,
        num_outputs=5,
        batch=True,
        dtype=[types.UINT8, types.BOOL, types.FLOAT, types.FLOAT, types.INT32],
        ndim=[1, 0, 1, 1, 0],
    )
    # Plain reads: a mapped file that shrinks under its reader kills the process.
    encoded = fn.io.file.read(names, dont_use_mmap=True)
    # A file with too large a claim is cut to nothing, on which the decoder fails without having allocated a picture.
    size = fn.cast(fn.peek_image_shape(encoded), dtype=types.INT64)
    fits = size[0] * size[1] <= types.Constant(round(max_megapixels * 1e6), dtype=types.INT64)
    length = encoded.shape()[0]
    # Of a JPEG without its end, the decoder would see the upper regions and fail on the lower ones.
    passes = fn.cast(fits & (is_whole | _not_cut_off(fn, types, encoded, length)), dtype=types.INT64)
    encoded = fn.slice(encoded, start=[0], shape=fn.stack(fn.cast(length * passes, dtype=types.INT32)), axes=[0])
    options = {"device": "cpu"}
    if device.type == "cuda":
        # Fancy upsampling is what libjpeg does on the CPU: the same picture on both.
        options = {"device": "mixed", "hw_decoder_load": hw_decoder_load, "jpeg_fancy_upsampling": True}
    regions = fn.decoders.image_slice(
        encoded, rel_start=start, rel_end=end, axis_names="HW", output_type=types.RGB, **options
    )
    return regions, mirror


def _not_cut_off(fn, types, encoded: DataNode, length: DataNode) -> DataNode:
    """False for a JPEG that does not have its end among its last bytes."""

    def pairs(first: DataNode, second: DataNode, wanted: bytes) -> DataNode:
        """Where two bytes follow each other."""
        return (first == types.Constant(wanted[0], dtype=types.UINT8)) & (
            second == types.Constant(wanted[1], dtype=types.UINT8)
        )

    def part(start: DataNode | list[int], count: int) -> DataNode:
        return fn.slice(encoded, start=start, shape=[count], axes=[0], out_of_bounds_policy="pad")

    before_last = fn.stack(fn.cast(length, dtype=types.INT32)) - TAIL
    ends = pairs(part(before_last, TAIL - 1), part(before_last + 1, TAIL - 1), END)
    starts = pairs(part([0], 1), part([1], 1), START)
    return (fn.reductions.max(fn.cast(starts, dtype=types.UINT8)) == 0) | (
        fn.reductions.max(fn.cast(ends, dtype=types.UINT8)) == 1
    )


def _pipeline(graph: Callable, *, device: torch.device, batch_size: int, threads: int, prefetch: int) -> Pipeline:
    dali = require("nvidia.dali", "nvidia-dali-cuda130")
    fn = require("nvidia.dali.fn", "nvidia-dali-cuda130")
    device_id = None
    if device.type == "cuda":
        device_id = torch.cuda.current_device() if device.index is None else device.index
    pipeline = dali.Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,  # outputs own their memory: nothing overwrites them while somebody holds them
    )
    with pipeline:
        pipeline.set_outputs(graph(fn, dali.types))
    pipeline.build()
    return pipeline
