"""What every operator must do at least: the bytes it moves and the operations it computes, counted from its maths.

Benchmarks divide these bytes by the time that they measured, and bench.roofline makes floors of all the counts. An
operator is one entry of OPERATORS: the shapes it is measured at, and its counts as a function of shape, width of a
number and passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

FORWARD, FORWARD_AND_BACKWARD = "forward", "forward+backward"
PASSES = (FORWARD, FORWARD_AND_BACKWARD)

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
"""The number formats that the operators are measured in."""


@dataclass(frozen=True)
class Counts:
    """What one call must do, whichever way it is written."""

    bytes: int
    """Moved through memory: each input read once, each output written once."""
    fmas: float
    """Slots of the fp32 units: a fused multiply-add takes one, an addition or a multiplication alone also."""
    specials: float
    """Exponentials, reciprocals and logarithms, which a GPU has fewer units for."""
    launches: int = 1
    """Kernels that cannot be one, because a result of all rows is needed before the next begins."""


class Operator(NamedTuple):
    shapes: tuple
    """Each prints as the results files name it."""
    count: Callable[..., Counts]
    """(shape, bytes per number, passes) -> Counts"""


class PuLossShape(NamedTuple):
    rows: int
    classes: int
    positives: float
    """Positive labels per row."""

    def __str__(self) -> str:
        return f"{self.rows}x{self.classes}"


LABEL_BYTES = 1  # int8
LOSS_BYTES = 4  # one float


def pu_loss(shape: PuLossShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/pu_loss.h and csrc/math/elementary.h.

    What is done once per class (the temperature, mu ** gamma, the coefficients of the gradient) is a share of 1/rows
    and left out, and so is the product with the upstream scalar, which can be taken into those coefficients.
    """
    elements = shape.rows * shape.classes
    positives = shape.rows * shape.positives
    moved = elements * (number_bytes + LABEL_BYTES) + LOSS_BYTES  # logits and labels read, the loss written
    fmas = elements * (
        3  # moments: less the shift, to the sum, to the sum of squares
        + 1  # z / tau, by the reciprocal of tau
        + 2  # sigmoid pair: 1 + e, e * larger
        + 1  # to the sum of the probabilities
    )
    fmas += positives * 2  # log sigmoid: the logarithm from min(x, 0), to the sum
    specials = elements * 2  # sigmoid pair: e = exp(-|x|), 1 / (1 + e)
    specials += positives  # log sigmoid: log(1 + e), with the same e
    if passes == FORWARD_AND_BACKWARD:
        moved += elements * number_bytes  # the gradient written
        fmas += elements * 2  # q * (p * unlabelled - positive)
    return Counts(moved, fmas, specials)


def mixup_consistency(shape: PuLossShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/mixup_consistency.h and csrc/math/elementary.h.

    What is done once per row (the permutation) is left out, and so is the product with the upstream scalar.
    """
    elements = shape.rows * shape.classes
    pairs = (shape.rows + 1) // 2 * shape.classes
    # logits, labels and mixed logits read, the loss written
    moved = elements * (number_bytes + LABEL_BYTES) + pairs * number_bytes + LOSS_BYTES
    fmas = pairs * (
        3 * 2  # sigmoid pairs: 1 + e, e * larger
        + 2 * 2  # targets: p + eps, q - eps
        + 2 * 3  # a and 1 - a
        + 2  # b and 1 - b
        + 2 * 3  # logarithms: 1 - complement, what that lost, to the logarithm
        + 2  # d, to the sum of squares
    )
    # sigmoid pairs: e = exp(-|x|), 1 / (1 + e); logarithms: log, 1 / argument
    specials = pairs * (3 * 2 + 2 * 2)
    if passes == FORWARD_AND_BACKWARD:
        moved += (elements + pairs) * number_bytes  # the gradients written
        fmas += pairs * (3 + 1 + 2 * 2 + 2)  # slopes p q, d / a, its products with shares and slopes, the mixed one
    return Counts(moved, fmas, specials)


class LossShape(NamedTuple):
    rows: int
    classes: int
    positives: float
    """Positive labels per row."""
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.rows}x{self.classes}"


class LossOperations(NamedTuple):
    """Of one element that is no positive."""

    fmas: int
    specials: int
    gradient_fmas: int
    gradient_specials: int


LOSS_OPERATIONS = {
    # 1 + e, log q from it, to the sum; exp, log; sigmoid e * larger, times the scale; reciprocal
    "an": LossOperations(3, 2, 2, 1),
    # also e * larger, r, 1 - r, times gamma, weight times log; exp, reciprocal, log r, log(1 - r), power; the slope:
    # p q, times 1 / (1 - r), times 1 / r, gamma log, less it, times the weight, times the scale; both reciprocals
    "asl": LossOperations(7, 5, 7, 2),
}
"""The kinds that are measured: the least that is done, and the most used of those that do more."""


def elementwise_loss(shape: LossShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/elementwise_loss.h.

    The product with the upstream scalar, which can be taken into the scale, is left out.
    """
    elements = shape.rows * shape.classes
    operations = LOSS_OPERATIONS[shape.kind]
    moved = elements * (number_bytes + LABEL_BYTES) + LOSS_BYTES  # logits and labels read, the loss written
    fmas = elements * operations.fmas
    specials = elements * operations.specials
    if passes == FORWARD_AND_BACKWARD:
        moved += elements * number_bytes  # the gradient written
        fmas += elements * operations.gradient_fmas
        specials += elements * operations.gradient_specials
    return Counts(moved, fmas, specials)


MASK_BYTES = 1  # bool
LARGEST_OF_ONE_BLOCK = 1 << 15
"""Entries that large_loss gives to one block of threads, which can wait for each other within a launch."""


def large_loss(shape: PuLossShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/large_loss.h and csrc/math/elementary.h; those on integers, which find the
    k-th largest logit, are left out, and so is all reading but the first.
    """
    elements = shape.rows * shape.classes
    moved = elements * (number_bytes + LABEL_BYTES + MASK_BYTES) + LOSS_BYTES  # logits and labels read, mask written
    fmas = elements * (
        2  # sigmoid pair: 1 + e, e * larger
        + 1  # logarithm: 1 + e
        + 2  # max(x, 0), to the sum of the losses
    )
    specials = elements * 3  # sigmoid pair: e = exp(-|x|), 1 / (1 + e); log(1 + e)
    if passes == FORWARD_AND_BACKWARD:
        moved += elements * number_bytes  # the gradient written
        fmas += elements  # by the number of entries
    launches = 1 if elements <= LARGEST_OF_ONE_BLOCK else 2  # the k-th largest logit, then what follows from it
    return Counts(moved, fmas, specials, launches)


class FeatureMapShape(NamedTuple):
    images: int
    channels: int
    height: int
    width: int
    heads: int = 8

    def __str__(self) -> str:
        return f"{self.images}x{self.channels}x{self.height}x{self.width}"

    def random(self, channels: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """A map [B, channels, H, W], channels_last, that wants a gradient."""
        size = (self.images, channels, self.height, self.width)
        tensor = torch.randn(size, device=device).to(dtype, memory_format=torch.channels_last)
        return tensor.requires_grad_()


STAGES = tuple(FeatureMapShape(4, 64 << stage, 112 >> stage, 112 >> stage) for stage in range(4))
"""The feature maps of the four stages of a ResNet at 448 pixels, with the 8 heads of the local-global convolution; the
stages of ResNet-18 and the 3x3 convolutions of ResNet-101 have these channels."""


def attention_pool(shape: FeatureMapShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/attention_pool.h; what is done once per image is left out."""
    positions = shape.images * shape.height * shape.width
    elements = positions * shape.channels
    scores = positions * shape.heads
    pooled = shape.images * shape.heads * shape.channels
    moved = (elements + scores + pooled) * number_bytes  # x and the scores read, the means written
    fmas = elements * shape.heads  # to the sums
    fmas += scores * 3  # comparison for the largest score, less that score, to the sum of the terms
    specials = scores  # exp
    launches = 2  # the sums of all positions, then what they are divided by
    if passes == FORWARD_AND_BACKWARD:
        # x, scores and the gradient of the means read, the gradients of x and scores written
        moved += (2 * elements + 2 * scores + pooled) * number_bytes
        fmas += elements * shape.heads * 2  # the dots with, and the spreading of, the gradient of the means
        fmas += scores * 4  # less the largest score, times the reciprocal of the sum; A (d - D)
        specials += scores  # exp
        launches += 1
    return Counts(moved, fmas, specials, launches)


def gated_broadcast_add(shape: FeatureMapShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/gated_broadcast_add.h; what is done once per image is left out."""
    positions = shape.images * shape.height * shape.width
    elements = positions * shape.channels
    scores = positions * shape.heads
    moved = (2 * elements + scores) * number_bytes  # y and the scores read, the result written
    fmas = elements * (shape.heads + 1)  # the spreading, the shift
    fmas += scores * 2  # sigmoid: 1 + e, e * larger
    specials = scores * 2  # exp, reciprocal
    launches = 1
    if passes == FORWARD_AND_BACKWARD:
        # upstream gradient and scores read, the gradient of the scores written; that of y is the upstream gradient
        moved += (elements + 2 * scores) * number_bytes
        fmas += elements * (2 * shape.heads + 1)  # to the sums M, the dots, to the sum of all
        fmas += scores * 4  # sigmoid, p q d
        specials += scores * 2
        launches += 2  # the sums of all positions, then the gradients made of them
    return Counts(moved, fmas, specials, launches)


class DepthwiseShape(NamedTuple):
    batch: int
    channels: int
    size: int
    """Rows and columns of the input."""
    kernel: int
    stride: int

    @property
    def out_size(self) -> int:
        return -(-self.size // self.stride)

    def __str__(self) -> str:
        suffix = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.batch}x{self.channels}x{self.size}k{self.kernel}{suffix}"


def depthwise_conv2d(shape: DepthwiseShape, number_bytes: int, passes: str) -> Counts:
    """A multiply-add per tap and output; dx and dweight take as many each. Taps in the padding are counted.

    Backward reads x and dy and writes dx; the weights, a share of 1 / (B H W), are left out.
    """
    maps = shape.batch * shape.channels
    read, written = maps * shape.size**2 * number_bytes, maps * shape.out_size**2 * number_bytes
    fmas = maps * shape.out_size**2 * shape.kernel**2
    if passes == FORWARD:
        return Counts(read + written, fmas, 0)
    return Counts(3 * read + 2 * written, 3 * fmas, 0, launches=3)


class SemanticShape(NamedTuple):
    images: int
    positions: int
    classes: int
    dimensions: int

    def __str__(self) -> str:
        return f"{self.images}x{self.positions}x{self.classes}x{self.dimensions}"


def semantic_attention(shape: SemanticShape, number_bytes: int, passes: str) -> Counts:
    """The operations are those of csrc/math/semantic_attention.h, with a tanh that the hardware has: a special
    function, and the one that each pass takes for every product. What is done once per row or word is left out.
    """
    rows = shape.images * shape.positions
    parameters = (shape.classes + 1) * shape.dimensions
    products = rows * shape.classes * shape.dimensions
    features, scores = rows * shape.dimensions, rows * shape.classes
    moved = (features + parameters + scores) * number_bytes  # features, words and v read, the scores written
    fmas = products * 2  # the product, to the sum
    specials = products
    launches = 1
    if passes == FORWARD_AND_BACKWARD:
        # the same and the gradient of the scores read, those of features, words and v written
        moved += (2 * features + 2 * parameters + scores) * number_bytes
        fmas += products * (
            1  # the product
            + 2  # the slope, 1 - t^2, with g
            + 3  # to the sums of the three gradients
        )
        specials += products
        launches += 1
    return Counts(moved, fmas, specials, launches)


OPERATORS = {
    "pu_loss": Operator(
        # the COCO recipe on one GPU, a large COCO batch, OpenImages
        (PuLossShape(35, 80, 2.9), PuLossShape(256, 80, 2.9), PuLossShape(1024, 9605, 8.0)),
        pu_loss,
    ),
    "mixup_consistency": Operator(
        (PuLossShape(35, 80, 2.9), PuLossShape(256, 80, 2.9), PuLossShape(1024, 9605, 8.0)), mixup_consistency
    ),
    "elementwise_loss": Operator(
        tuple(
            LossShape(*shape, kind)
            for kind in LOSS_OPERATIONS
            for shape in ((35, 80, 2.9), (256, 80, 2.9), (1024, 9605, 8.0))
        ),
        elementwise_loss,
    ),
    "large_loss": Operator(
        # the batch of LL-R on COCO, a large COCO batch, OpenImages
        (PuLossShape(16, 80, 2.9), PuLossShape(256, 80, 2.9), PuLossShape(1024, 9605, 8.0)),
        large_loss,
    ),
    "attention_pool": Operator(STAGES, attention_pool),
    "gated_broadcast_add": Operator(STAGES, gated_broadcast_add),
    "depthwise_conv2d": Operator(
        # ConvNeXt-T at 448 pixels, then layers of MobileNetV2 and EfficientNet-B0 and -B2
        tuple(
            DepthwiseShape(64, *layer)
            for layer in (
                *((96, 112, 7, 1), (192, 56, 7, 1), (384, 28, 7, 1), (768, 14, 7, 1)),
                *((96, 112, 3, 2), (144, 112, 3, 1), (240, 56, 5, 2), (480, 28, 3, 1)),
                *((672, 28, 5, 1), (1152, 14, 5, 1)),
            )
        ),
        depthwise_conv2d,
    ),
    "semantic_attention": Operator(
        # 448 pixels: a VOC and two COCO batches
        (SemanticShape(16, 49, 20, 512), SemanticShape(16, 49, 80, 512), SemanticShape(35, 49, 80, 512)),
        semantic_attention,
    ),
}
