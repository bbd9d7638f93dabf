"""pumlc.ops.mixup_consistency against its specification, pumlc.ops.reference.mixup_consistency."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.ops import mixup_consistency, reference
from tests.cases import (
    CASES,
    DTYPES,
    Case,
    assert_as_exact_as_eager,
    assert_same_bits,
    assert_same_bits_on_any_number_of_threads,
)
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# the shapes differ in what they ask of tiles and rows; none but these have two rows and a few thousand elements
NAMES = ("one class", "no positive", "all positive", "constant logits", "logits of +-80", "one outlier", "primes")
NAMES += ("COCO", "padded rows", "every second column", "column-major")
ALL = {case.name: case for case in CASES}
PAIRED = tuple(ALL[name] for name in NAMES)
MIX = 0.28125  # in every dtype


def make_inputs(case: Case, dtype, device) -> list[torch.Tensor]:
    """logits [B, C], labels [B, C], mixed_logits [h, C], permutation [h], mix []; strides of the case"""
    logits, labels = case(dtype, device)
    # of sigmoid(80) eager PyTorch loses the slope in float64 too: there is no truth to compare with
    logits.clamp_(max=8)
    half = (len(logits) + 1) // 2
    mixed_logits = case(dtype, device)[0][:half]
    mixed_logits.neg_().clamp_(max=8)
    permutation = torch.randperm(half, generator=torch.Generator().manual_seed(5)).to(device)
    mix = torch.tensor(MIX, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=device)
    return [logits, labels, mixed_logits, permutation, mix]


def loss_and_gradients(function, logits, labels, mixed_logits, *others, **settings):
    logits, mixed_logits = logits.detach().requires_grad_(), mixed_logits.detach().requires_grad_()
    loss = function(logits, labels, mixed_logits, *others, **settings)
    return loss.detach(), *torch.autograd.grad(loss, (logits, mixed_logits))


def assert_exact(inputs, results) -> None:
    eager = loss_and_gradients(reference.mixup_consistency, *inputs)
    doubles = [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]
    truth = loss_and_gradients(reference.mixup_consistency, *doubles)
    for result, like, true in zip(results, eager, truth, strict=True):
        assert_as_exact_as_eager(result, like, true)


def test_values_worked_out_by_hand(device):
    # sigmoid 1/2 and 3/4; pair 0 has rows 0 and 1: a = 1/4 (1/2) + 3/4 (3/4) = 11/16, b = 1/2
    logits = torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64, device=device)
    mixed_logits = torch.zeros(1, 1, dtype=torch.float64, device=device)
    permutation = torch.zeros(1, dtype=torch.int64, device=device)
    labels = torch.zeros(2, 1, dtype=torch.int8, device=device)
    loss, gradient, mixed_gradient = loss_and_gradients(
        mixup_consistency, logits, labels, mixed_logits, permutation, 0.25
    )
    d = math.log(11 / 8)
    assert loss.item() == pytest.approx(d * d)
    assert gradient[:, 0].tolist() == pytest.approx([2 * d / (11 / 16) * 0.25 / 4, 2 * d / (11 / 16) * 0.75 * 3 / 16])
    assert mixed_gradient.item() == pytest.approx(-2 * d / 2)
    labels[1] = 1  # a = 1/8 + 3/4, and nothing flows to the positive
    loss, gradient, _ = loss_and_gradients(mixup_consistency, logits, labels, mixed_logits, permutation, 0.25)
    d = math.log(7 / 4)
    assert loss.item() == pytest.approx(d * d)
    assert gradient[:, 0].tolist() == pytest.approx([2 * d / (7 / 8) * 0.25 / 4, 0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", PAIRED, ids=lambda case: case.name)
def test_is_as_exact_as_eager(case, dtype, device):
    inputs = make_inputs(case, dtype, device)
    results = loss_and_gradients(mixup_consistency, *inputs)
    assert results[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert results[1].dtype == results[2].dtype == dtype
    assert_exact(inputs, results)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 9])
def test_few_rows(rows, device):
    logits, labels, *_ = make_inputs(ALL["COCO"], torch.float64, device)
    half = (rows + 1) // 2
    for first in range(half):  # every place of the row that an odd batch has in both halves
        permutation = torch.arange(half, device=device).roll(first)
        inputs = [logits[:rows], labels[:rows], logits[rows : rows + half], permutation, 0.3]
        results = loss_and_gradients(mixup_consistency, *inputs)
        for result, true in zip(results, loss_and_gradients(reference.mixup_consistency, *inputs), strict=True):
            torch.testing.assert_close(result, true, rtol=1e-12, atol=1e-15)
        assert (results[1] != 0).any(1).all()  # no row is left out


def test_even_batches_are_paired_as_published(device):
    """The formula as published: halves [:B / 2] and [B / 2:], the mean over pairs, the sum over classes."""
    logits, labels, mixed_logits, permutation, mix = make_inputs(ALL["no positive"], torch.float64, device)
    labels[::3] = 1
    half = len(logits) // 2
    target = torch.where(labels == 1, 1.0, logits.sigmoid() + 1e-10)
    mixture = target[:half][permutation] * mix + target[half:] * (1 - mix)
    expected = ((torch.log(mixture + 1e-10) - torch.log(mixed_logits.sigmoid() + 1e-10)) ** 2).mean(0).sum()
    loss = mixup_consistency(logits, labels, mixed_logits, permutation, mix)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mix", [0.0, 1.0, 1e-12])
def test_mix_at_its_ends(mix, device):
    inputs = [*make_inputs(ALL["COCO"], torch.float32, device)[:4], torch.tensor(mix, device=device)]
    assert_exact(inputs, loss_and_gradients(mixup_consistency, *inputs))


def test_a_number_is_as_good_as_a_tensor(device):
    *inputs, mix = make_inputs(ALL["COCO"], torch.bfloat16, device)
    expected = mixup_consistency(*inputs, mix)
    assert torch.equal(mixup_consistency(*inputs, MIX), expected)
    assert torch.equal(mixup_consistency(*inputs, mix.bfloat16()), expected)


def test_detached_target(device):
    logits, labels, mixed_logits, permutation, mix = make_inputs(ALL["COCO"], torch.float32, device)
    loss, _, expected = loss_and_gradients(mixup_consistency, logits, labels, mixed_logits, permutation, mix)
    logits.requires_grad_(), mixed_logits.requires_grad_()
    detached = mixup_consistency(logits, labels, mixed_logits, permutation, mix, detach_target=True)
    by_logits, by_mixed = torch.autograd.grad(detached, (logits, mixed_logits), allow_unused=True)
    assert by_logits is None
    assert torch.equal(detached, loss)
    assert torch.equal(by_mixed, expected)


def test_gradient_by_logits_alone(device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)
    expected = loss_and_gradients(mixup_consistency, *inputs)[1]
    inputs[0].requires_grad_()
    (gradient,) = torch.autograd.grad(mixup_consistency(*inputs), inputs[0])
    assert torch.equal(gradient, expected)


def test_no_gradient_is_made_where_none_is_wanted(device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)
    inputs[0].requires_grad_()
    with torch.no_grad():
        assert not mixup_consistency(*inputs).requires_grad


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("magnitude", [80.0, 6e4, math.inf])
def test_large_logits_give_finite_values(magnitude, dtype, device):
    signs = torch.tensor([[1, -1, 1, -1], [1, -1, -1, 1], [-1, 1, 1, -1]], dtype=dtype, device=device)
    labels = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int8, device=device)
    permutation = torch.tensor([1, 0], device=device)
    for mixed in (signs[:2], -signs[:2]):
        results = loss_and_gradients(mixup_consistency, signs * magnitude, labels, mixed * magnitude, permutation, 0.5)
        for result in results:
            assert result.isfinite().all()


@pytest.mark.parametrize("which", [0, 2], ids=["logits", "mixed_logits"])
def test_nan_gives_a_loss_that_is_nan(which, device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)
    inputs[1].zero_()
    inputs[which][5, 70] = math.nan
    assert mixup_consistency(*inputs).isnan()


@pytest.mark.parametrize("entry", [-1, 18, 10**12])
def test_an_entry_that_is_no_row_gives_a_loss_that_is_nan(entry, device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)
    inputs[3][0] = entry
    assert mixup_consistency(*inputs).isnan()


def test_gradcheck(device):
    logits, labels, mixed_logits, _, mix = make_inputs(ALL["primes"], torch.float64, device)
    logits, mixed_logits = logits[:5, :7].clone().requires_grad_(), mixed_logits[:3, :7].clone().requires_grad_()
    others = labels[:5, :7], torch.tensor([2, 0, 1], device=device), mix
    for function in (mixup_consistency, reference.mixup_consistency):
        assert torch.autograd.gradcheck(
            lambda z, mixed, function=function: function(z, others[0], mixed, *others[1:]), (logits, mixed_logits)
        )


def test_second_derivative_is_a_clear_error(device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)
    inputs[0].requires_grad_()
    loss = mixup_consistency(*inputs)
    with pytest.raises(RuntimeError, match="mixup_consistency has no second derivative"):
        torch.autograd.grad(loss, inputs[0], create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_loss_scale_beyond_the_dtype(dtype, device):
    inputs = make_inputs(ALL["COCO"], dtype, device)
    leaves = [inputs[0].requires_grad_(), inputs[2].requires_grad_()]
    loss = mixup_consistency(*inputs)
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    scaled = torch.autograd.grad(loss, leaves, torch.full_like(loss, 65536.0))  # infinite in float16
    for gradient, result in zip(gradients, scaled, strict=True):
        assert torch.equal(result, (gradient.double() * 65536).to(dtype))


@pytest.mark.parametrize("name", ["primes", "COCO"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    inputs = make_inputs(ALL[name], torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: loss_and_gradients(mixup_consistency, *inputs))


# One multiprocessor has few blocks, which take several tiles each; an H200 has one for every tile.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one class", "primes", "COCO"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            inputs = make_inputs(ALL[name], torch.float32, "cpu")
            results.append(loss_and_gradients(mixup_consistency, *inputs))
    assert_same_bits(results)
    assert_exact(inputs, results[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: torch.zeros(1, 3), 1: torch.zeros(1, 3)}, ValueError, r"logits: got shape \[1, 3\], wanted at least two"),
        ({0: torch.zeros(0, 3), 1: torch.zeros(0, 3)}, ValueError, r"logits: got shape \[0, 3\], wanted at least two"),
        ({0: torch.zeros(5)}, ValueError, r"logits: got shape \[5\], wanted \[B, C\]"),
        ({1: torch.zeros(5, 2)}, ValueError, r"labels: got shape \[5, 2\], .* logits, \[5, 3\]"),
        ({2: torch.zeros(2, 3)}, ValueError, r"mixed_logits: got shape \[2, 3\], wanted \[3, 3\] beside logits"),
        ({2: torch.zeros(3, 3).double()}, TypeError, "mixed_logits: got dtype Double, wanted Float"),
        ({3: torch.arange(2)}, ValueError, r"permutation: got shape \[2\], wanted \[3\] beside logits"),
        ({3: torch.arange(3).int()}, TypeError, "permutation: got dtype Int, wanted Long"),
        ({4: torch.zeros(1)}, ValueError, r"mix: got shape \[1\], wanted \[\]"),
        ({4: torch.tensor(1)}, TypeError, "mix: got dtype Long, wanted float64"),
    ],
)
def test_bad_arguments_are_named(change, error, message, device):
    inputs = [torch.zeros(5, 3), torch.zeros(5, 3), torch.zeros(3, 3), torch.arange(3), torch.tensor(0.5)]
    inputs = [change.get(position, tensor).to(device) for position, tensor in enumerate(inputs)]
    with pytest.raises(error, match=message):
        mixup_consistency(*inputs)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_a_bad_eps_is_named(eps, device):
    with pytest.raises(ValueError, match=r"eps: got 0.*, wanted at least 1e-30"):
        mixup_consistency(*make_inputs(ALL["COCO"], torch.float32, device), eps=eps)


def test_opcheck(device):
    logits, labels, mixed_logits, permutation, mix = make_inputs(ALL["COCO"], torch.float32, device)
    for first, second in ((True, True), (True, False), (False, True), (False, False)):
        arguments = (
            logits.detach().requires_grad_(first),
            labels,
            mixed_logits.detach().requires_grad_(second),
            permutation,
            mix,
            1e-10,
            first,
            second,
        )
        torch.library.opcheck(torch.ops.pumlc.mixup_consistency.default, arguments)


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    inputs = make_inputs(ALL["COCO"], torch.float32, device)

    def doubled(logits, *others):
        return mixup_consistency(2 * logits, *others).sin()

    results = loss_and_gradients(torch.compile(doubled, fullgraph=True), *inputs)
    for result, like in zip(results, loss_and_gradients(doubled, *inputs), strict=True):
        torch.testing.assert_close(result, like)
