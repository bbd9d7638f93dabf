"""pumlc.ops.elementwise_loss against its specification, pumlc.ops.reference_losses.elementwise_loss."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.ops import LOSS_KINDS, elementwise_loss, reference_losses
from tests.cases import (
    CASES,
    DTYPES,
    assert_as_exact_as_eager,
    assert_same_bits,
    assert_same_bits_on_any_number_of_threads,
)
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

ALL = {case.name: case for case in CASES}
# the settings whose code is another, beside the defaults of every kind
VARIANTS = [(kind, {}) for kind in LOSS_KINDS]
VARIANTS += [
    ("focal", {"gamma": 0.5}),
    ("asl", {"gamma_neg": 1.0, "gamma_pos": 2.0, "clip": 0.0}),
    ("splc", {"correct": 1.0}),
    ("gr", {"w": 2.0, "mu": 0.8, "sigma": 0.5, "q2": 0.7, "q3": 0.3}),
]


def name_of(variant) -> str:
    kind, parameters = variant
    return "-".join([kind, *(f"{name}={value:g}" for name, value in parameters.items())])


variants = pytest.mark.parametrize("variant", VARIANTS, ids=name_of)


def loss_and_gradient(function, logits, labels, kind="an", parameters=None):
    logits = logits.detach().requires_grad_()
    loss = function(logits, labels, kind, **(parameters or {}))
    return loss.detach(), *torch.autograd.grad(loss, logits)


def assert_exact(results, logits, labels, *variant) -> None:
    eager = loss_and_gradient(reference_losses.elementwise_loss, logits, labels, *variant)
    truth = loss_and_gradient(reference_losses.elementwise_loss, logits.double(), labels, *variant)
    for result, like, true in zip(results, eager, truth, strict=True):
        assert_as_exact_as_eager(result, like, true)


LOG_3, LOG_4 = math.log(3), math.log(4)  # of the probability 3/4: -log p = LOG_4 - LOG_3, -log(1 - p) = LOG_4
NEAR = LOG_4 - LOG_3
FOCAL_POSITIVE = (NEAR / 16, -(1 / 4 + 2 * 3 / 4 * NEAR) / 16)
FOCAL_NEGATIVE = (LOG_4 * 9 / 16, 9 / 16 * (3 / 4 + 2 / 4 * LOG_4))
POSITIVE, NEGATIVE = (NEAR, -1 / 4), (LOG_4, 3 / 4)


@pytest.mark.parametrize(
    ("kind", "parameters", "positive", "unobserved", "negative"),
    [  # value and derivative at logit log 3, for positives of hill and splc at that and the margin of 1
        ("an", {}, POSITIVE, NEGATIVE, NEGATIVE),
        ("ignore", {}, POSITIVE, (0, 0), NEGATIVE),
        ("wan", {}, POSITIVE, (LOG_4 / 2, 3 / 8), NEGATIVE),
        ("ls", {}, (0.9 * NEAR + 0.1 * LOG_4, -0.15), *[(0.9 * LOG_4 + 0.1 * NEAR, 0.65)] * 2),
        ("focal", {}, FOCAL_POSITIVE, FOCAL_NEGATIVE, FOCAL_NEGATIVE),
        (
            "asl",
            {},
            POSITIVE,
            *[(0.7**4 * math.log(10 / 3), 3 / 16 * (0.7**4 / 0.3 + 4 * 0.7**3 * math.log(10 / 3)))] * 2,
        ),
        ("hill", {}, FOCAL_POSITIVE, *[(27 / 64, 3 / 16 * (2 * 1.5 * 3 / 4 - 3 * 9 / 16))] * 2),
        ("splc", {}, FOCAL_POSITIVE, FOCAL_NEGATIVE, FOCAL_NEGATIVE),
        ("splc", {"correct": True}, FOCAL_POSITIVE, FOCAL_POSITIVE, FOCAL_NEGATIVE),
        ("em", {}, POSITIVE, (-0.1 * (3 * NEAR + LOG_4) / 4, 0.1 * 3 / 16 * LOG_3), NEGATIVE),
        (  # k = 1/4, v = exp(-1/2)
            "gr",
            {"b": -LOG_3, "mu": 0.5, "sigma": 0.25, "q2": 1.0},
            POSITIVE,
            (math.exp(-0.5) * 10 / 16, math.exp(-0.5) * 3 / 16 * (3 / 4 - 1 / 4)),
            NEGATIVE,
        ),
    ],
)
def test_values_worked_out_by_hand(kind, parameters, positive, unobserved, negative, device):
    margin = 1.0 if kind in ("hill", "splc") else 0.0
    for label, (value, slope) in zip((1, 0, -1), (positive, unobserved, negative), strict=True):
        logits = torch.full((2, 3), LOG_3 + margin * (label == 1), dtype=torch.float64, device=device)
        labels = torch.full((2, 3), label, dtype=torch.int8, device=device)
        for function in (elementwise_loss, reference_losses.elementwise_loss):
            loss, gradient = loss_and_gradient(function, logits, labels, kind, parameters)
            share = 1 / 6 if LOSS_KINDS[kind].mean else 1.0
            assert loss.item() == pytest.approx(6 * share * value)
            assert gradient.flatten().tolist() == pytest.approx([share * slope] * 6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@variants
def test_is_as_exact_as_eager(variant, dtype, device):
    for name in ("padded rows", "logits of +-80"):
        logits, labels = ALL[name](dtype, device)
        loss, gradient = loss_and_gradient(elementwise_loss, logits, labels, *variant)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert gradient.dtype == dtype
        assert_exact((loss, gradient), logits, labels, *variant)


# what differs is how rows and columns are walked, not what is done to an element
SHAPES = (
    "one element",
    "one row",
    "one class",
    "all positive",
    "primes",
    "COCO",
    "every second column",
    "column-major",
)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_and_strides(name, device):
    logits, labels = ALL[name](torch.float32, device)
    assert_exact(loss_and_gradient(elementwise_loss, logits, labels, "focal"), logits, labels, "focal")
    strided = torch.stack([labels, labels], 2)[:, :, 1]  # rows of the labels alone are not end to end
    results = [loss_and_gradient(elementwise_loss, logits, it, "focal") for it in (labels, strided)]
    assert_exact(results[1], logits, labels, "focal")
    assert torch.equal(results[0][1], results[1][1])


@variants
def test_large_logits_give_finite_values(variant, device):
    signs = torch.tensor([[1, 1, 1], [-1, -1, -1]], device=device)
    labels = torch.tensor([[1, 0, -1], [1, 0, -1]], dtype=torch.int8, device=device)
    for dtype in DTYPES:
        for magnitude in (0.0, 17.0, 100.0, 6e4):
            for result in loss_and_gradient(elementwise_loss, signs.to(dtype) * magnitude, labels, *variant):
                assert result.isfinite().all()


@variants
def test_nan_gives_a_loss_that_is_nan(variant, device):
    logits = torch.tensor([[1.0, math.nan], [2.0, 3.0]], device=device)
    for label in (1, 0, -1) if variant[0] != "ignore" else (1, -1):  # where unobserved, it costs nothing
        labels = torch.tensor([[0, label], [1, 0]], dtype=torch.int8, device=device)
        loss, gradient = loss_and_gradient(elementwise_loss, logits, labels, *variant)
        assert loss.isnan()
        assert gradient.isnan().nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32], ids=str)
def test_labels_of_other_dtypes(dtype, device):
    logits, labels = ALL["COCO"](torch.float32, device)
    labels = labels.to(dtype)
    expected = elementwise_loss(logits, labels.to(torch.int8), "ignore")
    assert torch.equal(elementwise_loss(logits, labels, "ignore"), expected)
    assert torch.equal(elementwise_loss(logits, 7 * labels, "ignore"), expected)


def test_no_gradient_is_made_where_none_is_wanted(device):
    logits, labels = ALL["COCO"](torch.float32, device)
    expected = elementwise_loss(logits.requires_grad_(), labels)
    with torch.no_grad():
        loss = elementwise_loss(logits, labels)
    assert not loss.requires_grad
    assert torch.equal(loss, expected)


@variants
def test_gradcheck(variant, device):
    kind, parameters = variant
    if kind == "gr":  # what it holds constant must be constant
        parameters = {**parameters, "w": 0.0, "sigma": 1e9}
    logits, labels = ALL["primes"](torch.float64, device)
    logits, labels = logits[:2, :3].clone().requires_grad_(), labels[:2, :3].clone()
    labels[0] = torch.tensor([1, 0, -1])
    for function in (elementwise_loss, reference_losses.elementwise_loss):
        assert torch.autograd.gradcheck(lambda z, function=function: function(z, labels, kind, **parameters), logits)


def test_no_gradient_flows_through_the_weights_of_gr(device):
    """k = 1/2 + small for p = 1/2, v the peak of its Gaussian: their slopes, 1/8 each here, are not in the gradient."""
    logits = torch.zeros(1, 1, dtype=torch.float64, device=device)
    labels = torch.zeros(1, 1, dtype=torch.int8, device=device)
    parameters = {"w": 2.0, "b": -1.0, "mu": 0.0, "sigma": 0.5, "q2": 1.0, "q3": 0.5}
    _, gradient = loss_and_gradient(elementwise_loss, logits, labels, "gr", parameters)
    # k (1 - p) + (1 - k) 2 (1 - (1 - p)**0.5) by z with k = 1/2: p (1 - p) (-k + (1 - k) (1 - p)**-0.5), v = exp(-1/2)
    assert gradient.item() == pytest.approx(math.exp(-0.5) / 4 * (math.sqrt(2) - 1) / 2)


def test_second_derivative_is_a_clear_error(device):
    logits, labels = ALL["COCO"](torch.float32, device)
    loss = elementwise_loss(logits.requires_grad_(), labels)
    with pytest.raises(RuntimeError, match="elementwise_loss has no second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True)


def test_a_loss_scale_beyond_the_dtype(device):
    logits, labels = ALL["COCO"](torch.float16, device)
    loss = elementwise_loss(logits.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss, logits, torch.full_like(loss, 65536.0))  # infinite in float16
    assert torch.equal(scaled, (gradient.double() * 65536).half())


@pytest.mark.parametrize("kind", ["asl", "gr"])
@pytest.mark.parametrize("name", ["primes", "padded rows"])
def test_same_input_same_bits_on_any_number_of_threads(name, kind, device):
    inputs = ALL[name](torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: loss_and_gradient(elementwise_loss, *inputs, kind))


# One multiprocessor has few blocks, which take several tiles each; an H200 has one for every tile.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one class", "primes"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    results = []
    for order in range(2):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            inputs = ALL[name](torch.float32, "cpu")
            results.append(loss_and_gradient(elementwise_loss, *inputs, "asl"))
    assert_same_bits(results)
    assert_exact(results[0], *inputs, "asl")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(0, 3)}, ValueError, r"logits: got shape \[0, 3\], wanted at least one row"),
        ({"logits": torch.zeros(5, 0)}, ValueError, r"logits: got shape \[5, 0\], wanted at least one row"),
        ({"logits": torch.zeros(5)}, ValueError, r"logits: got shape \[5\], wanted \[B, C\]"),
        ({"logits": torch.zeros(5, 3).int()}, TypeError, "logits: got dtype Int"),
        ({"labels": torch.zeros(5, 2)}, ValueError, r"labels: got shape \[5, 2\], .* logits, \[5, 3\]"),
        ({"kind": "bce"}, ValueError, "kind: got 'bce', wanted one of an, ignore, wan, ls, focal"),
        ({"gamma": 2.0}, ValueError, "gamma: an has no such parameter, wanted none"),
        ({"kind": "ls", "gamma": 2.0}, ValueError, "gamma: ls has no such parameter, wanted one of smoothing"),
        ({"kind": "focal", "gamma": -1.0}, ValueError, "gamma: got -1, wanted between 0 and inf"),
        ({"kind": "focal", "gamma": math.inf}, ValueError, "gamma: got inf, wanted between 0 and inf"),
        ({"kind": "gr", "q2": 0.0}, ValueError, "q2: got 0, wanted between 1e-06 and inf"),
        ({"kind": "wan", "logits": torch.zeros(5, 1)}, ValueError, "logits: got one class, wanted at least two"),
    ],
)
def test_bad_arguments_are_named(change, error, message, device):
    arguments = {"logits": torch.zeros(5, 3), **change}
    arguments.setdefault("labels", torch.zeros(arguments["logits"].shape))
    arguments = {name: it.to(device) if isinstance(it, torch.Tensor) else it for name, it in arguments.items()}
    with pytest.raises(error, match=message):
        elementwise_loss(**arguments)


def test_the_kernels_count_the_parameters(device):
    logits, labels = ALL["COCO"](torch.float32, device)
    for kind, of_kind in LOSS_KINDS.items():
        too_many = [1.0] * (len(of_kind.parameters) + 1)
        with pytest.raises(ValueError, match=f"parameters: got {len(too_many)}, wanted the {len(too_many) - 1} of"):
            torch.ops.pumlc.elementwise_loss(logits, labels, kind, too_many, True, False)


def test_opcheck(device):
    logits, labels = ALL["COCO"](torch.float32, device)
    for with_gradient in (True, False):
        arguments = (logits.detach().requires_grad_(with_gradient), labels, "focal", [2.0], True, with_gradient)
        torch.library.opcheck(torch.ops.pumlc.elementwise_loss.default, arguments)


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    inputs = ALL["COCO"](torch.float32, device)

    def doubled(logits, labels, kind, **parameters):
        return elementwise_loss(2 * logits, labels, kind, **parameters).sin()

    results = loss_and_gradient(torch.compile(doubled, fullgraph=True), *inputs, "hill")
    for result, like in zip(results, loss_and_gradient(doubled, *inputs, "hill"), strict=True):
        torch.testing.assert_close(result, like)
