"""The two DALI graphs: file names in, normalised images out. Nothing here knows labels, epochs or ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from pumlc.errors import require

if TYPE_CHECKING:
    from nvidia.dali import Pipeline
    from nvidia.dali.pipeline import DataNode

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, on a scale of 0 to 1."""
STD = (0.229, 0.224, 0.225)
"""Their standard deviation."""


def train_pipeline(source: Callable, *, batch_size: int, image_size: int, dtype: torch.dtype, **options) -> Pipeline:
    """Read, decode, resample a region to ``image_size`` x ``image_size``, mirror, normalise.

    Args:
        source: called for every batch, from the thread that runs the pipeline. Returns B file names (uint8 arrays),
            the regions' starts and ends ([B, 2] float32, vertical first, as shares of the image) and the mirror
            flags ([B] int32); raises StopIteration at the end.
        batch_size: most images per batch.
        dtype: torch.float32 or torch.float16.
        options: see ``_pipeline``.

    Returns:
        A pipeline with one output, [B, image_size, image_size, 3] of ``dtype``.
    """

    def graph(fn, types, decode) -> DataNode:
        names, start, end, mirror = fn.external_source(
            source,
            num_outputs=4,
            batch=True,
            dtype=[types.UINT8, types.FLOAT, types.FLOAT, types.INT32],
            ndim=[1, 1, 1, 0],
        )
        region = {"roi_start": start, "roi_end": end, "roi_relative": True}
        return _normalise(fn, types, _resize(fn, types, decode(names), image_size, **region), dtype, mirror=mirror)

    return _pipeline(graph, batch_size=batch_size, **options)


def evaluation_pipeline(
    source: Callable, *, batch_size: int, image_size: int, dtype: torch.dtype, **options
) -> Pipeline:
    """Read, decode, resize the whole image to ``image_size`` x ``image_size``, normalise.

    As ``train_pipeline``, but ``source`` returns the B file names alone, as a tuple of one list.
    """

    def graph(fn, types, decode) -> DataNode:
        (names,) = fn.external_source(source, num_outputs=1, batch=True, dtype=[types.UINT8], ndim=[1])
        return _normalise(fn, types, _resize(fn, types, decode(names), image_size), dtype)

    return _pipeline(graph, batch_size=batch_size, **options)


def decoding_pipeline(source: Callable, **options) -> Pipeline:
    """Read and decode one image at a time and do nothing else: to find the file that a batch failed on."""

    def graph(fn, types, decode) -> DataNode:
        (names,) = fn.external_source(source, num_outputs=1, batch=True, dtype=[types.UINT8], ndim=[1])
        return decode(names)

    return _pipeline(graph, batch_size=1, prefetch=1, **options)


def _pipeline(
    graph: Callable, *, batch_size: int, device: torch.device, threads: int, prefetch: int, hw_decoder_load: float
) -> Pipeline:
    """Build the pipeline around a graph.

    Args:
        device: where images are decoded and come out. On a CPU nothing of CUDA is touched.
        threads: CPU threads that read and decode.
        prefetch: batches in the pipeline at a time, the one handed out included.
        hw_decoder_load: share of the JPEGs decoded by the GPU's JPEG engine, where it has one. That engine and the
            CUDA decoder differ in a few pixel values and share the work by load: 0 makes runs reproducible.
    """
    dali = require("nvidia.dali", "nvidia-dali-cuda130")
    fn, types = require("nvidia.dali.fn", "nvidia-dali-cuda130"), dali.types
    if device.type == "cuda":
        device_id = torch.cuda.current_device() if device.index is None else device.index
        # Fancy upsampling is what libjpeg does on the CPU: the same picture on both.
        options = {"device": "mixed", "hw_decoder_load": hw_decoder_load, "jpeg_fancy_upsampling": True}
    else:
        device_id, options = None, {"device": "cpu"}

    def decode(names: DataNode) -> DataNode:
        # Plain reads: a mapped file that shrinks under the reader kills the process. Whole images, although a region
        # is used: it costs a few per cent, the JPEG engine can do it, and a damaged file fails whatever its region.
        return fn.decoders.image(fn.io.file.read(names, dont_use_mmap=True), output_type=types.RGB, **options)

    pipeline = dali.Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=prefetch,
        exec_dynamic=True,  # outputs own their memory: a batch stays valid while somebody holds it
    )
    with pipeline:
        pipeline.set_outputs(graph(fn, types, decode))
    pipeline.build()
    return pipeline


def _resize(fn, types, images: DataNode, image_size: int, **region) -> DataNode:
    # Cubic, widened when it scales down: within rounding of Pillow's resize(..., BICUBIC, box=region).
    return fn.resize(images, size=[image_size, image_size], interp_type=types.INTERP_CUBIC, antialias=True, **region)


def _normalise(fn, types, images: DataNode, dtype: torch.dtype, **flags) -> DataNode:
    # HWC all the way: seen as [B, 3, H, W] it is channels_last, without a transpose.
    return fn.crop_mirror_normalize(
        images,
        dtype={torch.float32: types.FLOAT, torch.float16: types.FLOAT16}[dtype],
        output_layout="HWC",
        mean=[255 * mean for mean in MEAN],
        std=[255 * std for std in STD],
        **flags,
    )
