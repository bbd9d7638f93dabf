"""pumlc.ops.large_loss against its specification, pumlc.ops.reference.large_loss."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.ops import large_loss, reference
from tests.cases import (
    CASES,
    DTYPES,
    assert_as_exact_as_eager,
    assert_same_bits,
    assert_same_bits_on_any_number_of_threads,
)
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

MODES = ("reject", "correct")
ALL = {case.name: case for case in CASES}
# the others are like these but for more rows or classes; the first is of one positive
NAMES = ("one element", "one row", "one class", "no positive", "all positive", "constant logits", "logits of +-80")
NAMES += ("one outlier", "primes", "COCO", "padded rows", "every second column", "column-major")
CHOSEN = tuple(ALL[name] for name in NAMES)


def loss_mask_and_gradient(function, logits, labels, k, mode):
    logits = logits.detach().requires_grad_()
    loss, corrected = function(logits, labels, k, mode)
    return loss.detach(), corrected, *torch.autograd.grad(loss, logits)


def assert_exact(logits, labels, k, mode) -> torch.Tensor:
    """Returns the mask."""
    loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, k, mode)
    eager = loss_mask_and_gradient(reference.large_loss, logits, labels, k, mode)
    truth = loss_mask_and_gradient(reference.large_loss, logits.double(), labels, k, mode)
    assert loss.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == logits.dtype
    assert torch.equal(corrected, truth[1])
    assert_as_exact_as_eager(loss, eager[0], truth[0])
    assert_as_exact_as_eager(gradient, eager[2], truth[2])
    return corrected


def random_inputs(rows, classes, device, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(rows, classes, dtype=torch.float64, generator=generator).to(dtype)
    labels = torch.randint(-1, 2, (rows, classes), generator=generator, dtype=torch.int8)
    return logits.to(device), labels.to(device)


def test_values_worked_out_by_hand(device):
    # sigmoid 1/2, 3/4, 9/10 and 1/4; losses of the negatives log 2, log 4, log 10 and log 4/3
    logits = torch.tensor([[0.0, math.log(3), math.log(9), -math.log(3)]], dtype=torch.float64, device=device)
    labels = torch.tensor([[0, 0, 0, 0]], dtype=torch.int8, device=device)
    loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, 2, "reject")
    assert corrected.tolist() == [[False, True, True, False]]
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 4)
    assert gradient[0].tolist() == pytest.approx([1 / 8, 0, 0, 1 / 16])
    loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, 2, "correct")
    assert corrected.tolist() == [[False, True, True, False]]
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3) + math.log(10 / 9) + math.log(4 / 3)) / 4)
    assert gradient[0].tolist() == pytest.approx([1 / 8, -1 / 16, -1 / 40, 1 / 16])
    labels = torch.tensor([[0, -1, 1, 0]], dtype=torch.int8, device=device)  # the largest two are known
    loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, 1, "reject")
    assert corrected.tolist() == [[True, False, False, False]]
    assert loss.item() == pytest.approx((math.log(4) + math.log(10 / 9) + math.log(4 / 3)) / 4)
    assert gradient[0].tolist() == pytest.approx([0, 3 / 16, -1 / 40, 1 / 16])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_is_as_exact_as_eager(case, dtype, device):
    logits, labels = case(dtype, device)
    k = math.ceil(logits.numel() * 0.02)
    masks = [assert_exact(logits, labels, k, mode) for mode in MODES]
    assert torch.equal(*masks)
    assert not (masks[0] & (labels != 0)).any()
    assert masks[0].sum() >= min(k, (labels == 0).sum())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_any_k(mode, dtype, device):
    logits, labels = random_inputs(9, 13, device, dtype)
    unobserved = int((labels == 0).sum())
    for k in (0, 1, 2, unobserved // 2, unobserved - 1, unobserved, unobserved + 1, logits.numel(), 10**12):
        corrected = assert_exact(logits, labels, k, mode)
        if dtype != torch.bfloat16:  # where some logits are equal
            assert corrected.sum() == min(k, unobserved)


@pytest.mark.parametrize("mode", MODES)
def test_all_that_equal_the_smallest_large_loss_are_large(mode, device):
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0], [2.0, 2.0, 1.0, 3.0]], device=device)
    labels = torch.tensor([[0, 0, 0, -1], [0, 1, 0, 0]], dtype=torch.int8, device=device)
    for k, threshold in ((1, 3), (2, 3), (3, 2), (4, 2), (5, 1)):
        corrected = assert_exact(logits, labels, k, mode)
        assert torch.equal(corrected, (labels == 0) & (logits >= threshold))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_equals_minus_zero(dtype, device):
    logits = torch.tensor([[0.0, -0.0, -0.0, -1e-6, 1e-6]], dtype=dtype, device=device)
    labels = torch.zeros(1, 5, dtype=torch.int8, device=device)
    for k, expected in ((1, [4]), (2, [0, 1, 2, 4]), (4, [0, 1, 2, 4]), (5, [0, 1, 2, 3, 4])):
        assert assert_exact(logits, labels, k, "reject")[0].nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_losses_that_round_to_the_same_number_are_told_apart(dtype, device):
    """The loss of each of these is 0 in every dtype; a threshold of 0 would take in what is known, too."""
    logits = -1e4 - 512 * torch.arange(8.0, device=device)[None].to(dtype)
    labels = torch.zeros(1, 8, dtype=torch.int8, device=device)
    labels[0, 1] = -1
    _, corrected = large_loss(logits, labels, 2, "correct")
    assert corrected[0].nonzero().flatten().tolist() == [0, 2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", [1, -1])
def test_no_unobserved_entry(label, mode, device):
    logits, labels = random_inputs(4, 5, device)
    labels.fill_(label)
    assert not assert_exact(logits, labels, 7, mode).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("magnitude", [100.0, 6e4])
def test_large_logits_give_finite_values(magnitude, mode, dtype, device):
    logits = magnitude * torch.tensor([[1, -1, 1, -1], [1, 1, -1, -1]], dtype=dtype, device=device)
    labels = torch.tensor([[0, 0, 1, 1], [0, -1, -1, 0]], dtype=torch.int8, device=device)
    for k in (0, 1, 4):
        loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, k, mode)
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert corrected.sum() == (0, 2, None, None, 4)[k]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_infinite_logits_are_ordered_too(dtype, device):
    logits = torch.tensor([[math.inf, 1.0, -math.inf, -1.0]], dtype=dtype, device=device)
    labels = torch.zeros(1, 4, dtype=torch.int8, device=device)
    for k, expected in ((1, [0]), (3, [0, 1, 3]), (4, [0, 1, 2, 3])):
        loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, k, "reject")
        assert corrected[0].nonzero().flatten().tolist() == expected
        assert loss.isfinite()
        assert gradient.isfinite().all()
    assert large_loss(logits, labels, 0, "reject")[0] == math.inf


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nan", [math.nan, -math.nan])
def test_nan_is_seen_and_never_chosen(nan, mode, dtype, device):
    logits, labels = random_inputs(6, 7, device, dtype)
    labels[2, 3] = 0
    logits[2, 3] = nan
    for k in (0, 1, 5, 42):
        loss, corrected, gradient = loss_mask_and_gradient(large_loss, logits, labels, k, mode)
        assert loss.isnan()
        assert gradient.isnan().nonzero().tolist() == [[2, 3]]
        assert torch.equal(corrected, reference.large_loss(logits, labels, k, mode)[1])
        assert corrected.sum() >= min(k, (labels == 0).sum() - 1)
        assert not corrected[2, 3]


def test_gradcheck(device):
    """Away from ties: a small step does not change which entries are chosen."""
    logits, labels = random_inputs(5, 7, device, torch.float64)
    for mode in MODES:
        for function in (large_loss, reference.large_loss):
            assert torch.autograd.gradcheck(
                lambda z, function=function, mode=mode: function(z, labels, 4, mode)[0], logits.requires_grad_()
            )


def test_second_derivative_is_a_clear_error(device):
    logits, labels = random_inputs(5, 7, device)
    loss, _ = large_loss(logits.requires_grad_(), labels, 4, "reject")
    with pytest.raises(RuntimeError, match="large_loss has no second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_loss_scale_beyond_the_dtype(dtype, device):
    logits, labels = random_inputs(5, 7, device, dtype)
    loss, _ = large_loss(logits.requires_grad_(), labels, 4, "correct")
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss, logits, torch.full_like(loss, 65536.0))  # infinite in float16
    assert torch.equal(scaled, (gradient.double() * 65536).to(dtype))


def test_no_gradient_is_made_where_none_is_wanted(device):
    logits, labels = random_inputs(5, 7, device)
    expected = loss_mask_and_gradient(large_loss, logits, labels, 4, "correct")
    with torch.no_grad():
        loss, corrected = large_loss(logits.requires_grad_(), labels, 4, "correct")
    assert not loss.requires_grad
    assert not corrected.requires_grad
    assert torch.equal(loss, expected[0])
    assert torch.equal(corrected, expected[1])


@pytest.mark.parametrize("name", ["primes", "padded rows"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    logits, labels = ALL[name](torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: loss_mask_and_gradient(large_loss, logits, labels, 60, "correct"))


# The first two are one block's; of the third, one multiprocessor has fewer blocks than an H200.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one class", "COCO", "primes"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            logits, labels = ALL[name](torch.float32, "cpu")
            results.append(loss_mask_and_gradient(large_loss, logits, labels, 60, "correct"))
    assert_same_bits(results)
    expected = reference.large_loss(logits.double(), labels, 60, "correct")
    assert torch.equal(results[0][1], expected[1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"logits": torch.zeros(0, 3), "labels": torch.zeros(0, 3).char()},
            ValueError,
            r"logits: got shape \[0, 3\], wanted at",
        ),
        ({"logits": torch.zeros(5)}, ValueError, r"logits: got shape \[5\], wanted \[B, C\]"),
        ({"logits": torch.zeros(5, 3).int()}, TypeError, "logits: got dtype Int, wanted float64"),
        ({"labels": torch.zeros(5, 2)}, ValueError, r"labels: got shape \[5, 2\], .* logits, \[5, 3\]"),
        ({"labels": torch.zeros(5, 3)}, TypeError, "labels: got dtype Float, wanted int8"),
        ({"k": -1}, ValueError, "k: got -1, wanted at least 0"),
        ({"mode": "rejects"}, ValueError, "mode: got 'rejects', wanted 'reject' or 'correct'"),
    ],
)
def test_bad_arguments_are_named(change, error, message, device):
    arguments = {"logits": torch.zeros(5, 3), "labels": torch.zeros(5, 3).char(), "k": 1, "mode": "reject", **change}
    arguments = {name: it.to(device) if isinstance(it, torch.Tensor) else it for name, it in arguments.items()}
    with pytest.raises(error, match=message):
        large_loss(**arguments)


def test_opcheck(device):
    logits, labels = random_inputs(5, 7, device)
    for wanted in (True, False):
        arguments = logits.detach().requires_grad_(wanted), labels, 4, True, wanted
        torch.library.opcheck(torch.ops.pumlc.large_loss.default, arguments)


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    logits, labels = random_inputs(5, 7, device)

    def doubled(logits, labels, k, mode):
        loss, corrected = large_loss(2 * logits, labels, k, mode)
        return loss.sin(), corrected

    arguments = logits, labels, 4, "correct"
    results = loss_mask_and_gradient(torch.compile(doubled, fullgraph=True), *arguments)
    for result, like in zip(results, loss_mask_and_gradient(doubled, *arguments), strict=True):
        torch.testing.assert_close(result, like)
