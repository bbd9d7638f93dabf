"""pumlc.ops.pu_loss against its specification, pumlc.ops.reference.pu_loss."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys

import pytest
import torch

from pumlc.nn import PULoss
from pumlc.ops import pu_loss, pu_statistics, reference
from tests.cases import (
    CASES,
    DTYPES,
    assert_as_exact_as_eager,
    assert_same_bits,
    assert_same_bits_on_any_number_of_threads,
)
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SETTINGS = {"alpha": 1.0, "gamma": 0.55, "min_temperature": 1e-2}
PHASES_SIZE = 4  # gradient scale that a group of this size would have


def loss_and_gradient(function, logits, labels, **settings):
    logits = logits.detach().requires_grad_()
    loss = function(logits, labels, **settings)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def in_phases(logits, labels, parts):
    """Loss, statistics and gradient by the three-phase operators, the rows shared by `parts` processes."""
    op = torch.ops.pumlc
    shares = list(zip(logits.tensor_split(parts), labels.tensor_split(parts), strict=True))
    moments = torch.cat([op.pu_moments(z, y) for z, y in shares])
    sums = sum(op.pu_probability_sums(z, y, moments, 1.0, 1e-2) for z, y in shares)
    results = [op.pu_finish(z, y, moments, sums, 1.0, 0.55, 1e-2, 1.0) for z, y in shares]
    return results[0][0], results[0][1], torch.cat([gradient for _, _, gradient in results])


def test_values_worked_out_by_hand():
    logits = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # s = 1, so tau = 1; mu = 1/2
    labels = torch.tensor([[0], [1]], dtype=torch.int8)
    loss, gradient = loss_and_gradient(pu_loss, logits, labels, gamma=1.0)
    p = 1 / (1 + math.exp(-1))
    assert loss.item() == pytest.approx(0.5 * math.log(0.5) - math.log(p))
    # w / (mu N) p (1 - p) = p (1 - p) / 2 in both rows; minus (1 - p) / n in the positive one
    assert gradient[:, 0].tolist() == pytest.approx([p * (1 - p) / 2, p * (1 - p) / 2 - (1 - p)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_as_exact_as_eager(case, dtype, device):
    logits, labels = case(dtype, device)
    loss, gradient = loss_and_gradient(pu_loss, logits, labels, **SETTINGS)
    eager_loss, eager_gradient = loss_and_gradient(reference.pu_loss, logits, labels, **SETTINGS)
    true_loss, true_gradient = loss_and_gradient(reference.pu_loss, logits.double(), labels, **SETTINGS)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    assert_as_exact_as_eager(loss, eager_loss, true_loss)
    assert_as_exact_as_eager(gradient, eager_gradient, true_gradient)

    statistics = pu_statistics(logits, labels, **SETTINGS)
    eager = reference.pu_statistics(logits, labels, **SETTINGS)
    truth = reference.pu_statistics(logits.double(), labels, **SETTINGS)
    for name in statistics._fields:
        assert_as_exact_as_eager(getattr(statistics, name), getattr(eager, name), getattr(truth, name))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_phases_give_the_same(case, dtype, parts, device):
    logits, labels = case(dtype, device)
    loss, statistics, gradient = in_phases(logits, labels, parts)
    eager_loss, eager_gradient = loss_and_gradient(reference.pu_loss, logits, labels, **SETTINGS)
    true_loss, true_gradient = loss_and_gradient(reference.pu_loss, logits.double(), labels, **SETTINGS)
    assert_as_exact_as_eager(loss, eager_loss, true_loss)
    assert_as_exact_as_eager(gradient, eager_gradient, true_gradient)
    assert torch.equal(statistics[0].long().cpu(), (labels > 0).sum(0).cpu())


@pytest.mark.parametrize(("alpha", "gamma", "min_temperature"), [(2.0, 0.85, 1e-2), (0.3, 0.0, 0.5), (50.0, 1.0, 1e-4)])
def test_constants(alpha, gamma, min_temperature, device):
    logits, labels = CASES[10](torch.float64, device)
    settings = {"alpha": alpha, "gamma": gamma, "min_temperature": min_temperature}
    loss, gradient = loss_and_gradient(pu_loss, logits, labels, **settings)
    true_loss, true_gradient = loss_and_gradient(reference.pu_loss, logits, labels, **settings)
    torch.testing.assert_close(loss, true_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, true_gradient, rtol=1e-9, atol=1e-15)


def test_gradcheck(device):
    # tau and w carry no gradient: with alpha this large tau is 1, with gamma 0 w is 1, and nothing is held constant
    logits, labels = CASES[10](torch.float64, device)
    logits = logits[:9, :7].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: pu_loss(z, labels[:9, :7], 1e3, 0.0), logits)
    assert torch.autograd.gradgradcheck(lambda z: reference.pu_loss(z, labels[:9, :7], 1e3, 0.0), logits)


def test_second_derivative_is_a_clear_error(device):
    logits, labels = CASES[10](torch.float32, device)
    loss = pu_loss(logits.requires_grad_(), labels)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, logits, create_graph=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("magnitude", [1e4, 6e4])
def test_large_logits_give_finite_values(magnitude, dtype, device):
    logits = torch.tensor([[1.0, -1, 1, 0], [-1, -1, 1, 0], [1, -1, 1, 0]], dtype=dtype, device=device) * magnitude
    labels = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int8, device=device)
    loss, gradient = loss_and_gradient(pu_loss, logits, labels)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert pu_statistics(logits, labels).loss.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_logit_that_is_not_finite_gives_such_a_loss(value, rows, device):
    logits = torch.randn(rows, 6, device=device)
    logits[rows // 2, 4] = value
    labels = torch.zeros(rows, 6, dtype=torch.int8, device=device)
    assert not pu_loss(logits, labels).isfinite()
    assert pu_statistics(logits, labels).loss.isfinite().tolist() == [True, True, True, True, False, True]


def test_backward_leaves_what_it_saved(device):
    logits, labels = CASES[10](torch.float32, device)
    logits.requires_grad_()
    loss = pu_loss(logits, labels)
    (first,) = torch.autograd.grad(loss, logits, torch.tensor(3.0, device=device), retain_graph=True)
    kept = first.clone()
    first.zero_()
    (second,) = torch.autograd.grad(loss, logits, torch.tensor(3.0, device=device), retain_graph=True)
    (unscaled,) = torch.autograd.grad(loss, logits)
    assert torch.equal(second, kept)
    torch.testing.assert_close(unscaled * 3, kept)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_loss_scale_beyond_the_dtype(dtype, device):
    logits, labels = CASES[10](dtype, device)
    logits.requires_grad_()
    loss = pu_loss(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss, logits, torch.full_like(loss, 65536.0))  # infinite in float16
    expected = (gradient.double() * 65536).to(dtype)
    assert torch.equal(scaled, expected)


def test_same_input_same_bits_on_any_number_of_threads(device):
    logits, labels = CASES[9](torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: loss_and_gradient(pu_loss, logits, labels))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_labels_of_other_dtypes(dtype, device):
    logits, labels = CASES[10](torch.float32, device)
    other = (labels > 0) if dtype == torch.bool else labels.to(dtype)
    assert torch.equal(pu_loss(logits, other), pu_loss(logits, labels))


def test_known_negatives_count_as_unlabelled(device):
    logits, labels = CASES[10](torch.float32, device)
    assert (labels < 0).any()
    assert torch.equal(pu_loss(logits, labels), pu_loss(logits, labels.clamp(min=0)))


def test_module(device):
    logits, labels = CASES[10](torch.bfloat16, device)
    module = PULoss(2.0, 0.85)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(module(logits, labels), pu_loss(logits, labels, 2.0, 0.85))
    assert repr(module) == "PULoss(alpha=2.0, gamma=0.85, min_temperature=0.01)"


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (torch.zeros(0, 4), torch.zeros(0, 4), ValueError, r"logits: got shape \[0, 4\], wanted at least one row"),
        (torch.zeros(4, 0), torch.zeros(4, 0), ValueError, r"logits: got shape \[4, 0\]"),
        (torch.zeros(4), torch.zeros(4), ValueError, r"logits: got shape \[4\], wanted \[B, C\]"),
        (torch.zeros(4, 3), torch.zeros(4, 2), ValueError, r"labels: got shape \[4, 2\], .* logits, \[4, 3\]"),
        (torch.zeros(4, 3, dtype=torch.int32), torch.zeros(4, 3), TypeError, "logits: got dtype Int"),
    ],
)
def test_bad_arguments_are_named(logits, labels, error, message, device):
    with pytest.raises(error, match=message):
        pu_loss(logits.to(device), labels.to(device))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, "alpha: got -1, wanted at least 0"),
        ({"min_temperature": 0.0}, "min_temperature: got 0, wanted more than 0 and at most 1"),
        ({"min_temperature": 2.0}, "min_temperature: got 2"),
    ],
)
def test_bad_constants_are_named(settings, message, device):
    with pytest.raises(ValueError, match=message):
        pu_loss(torch.zeros(4, 3, device=device), torch.zeros(4, 3, device=device), **settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_labels_on_another_device_are_named():
    with pytest.raises(ValueError, match="labels: got device cpu, wanted that of logits, cuda:0"):
        pu_loss(torch.zeros(4, 3, device="cuda"), torch.zeros(4, 3, dtype=torch.int8))


def test_opcheck(device):
    logits, labels = CASES[10](torch.float32, device)
    op = torch.ops.pumlc
    moments = op.pu_moments(logits, labels)
    sums = op.pu_probability_sums(logits, labels, moments, 1.0, 1e-2)
    for requires_grad in (False, True):
        arguments = (logits.detach().requires_grad_(requires_grad), labels, 1.0, 0.55, 1e-2, requires_grad)
        torch.library.opcheck(op.pu_loss.default, arguments)
    torch.library.opcheck(op.pu_loss_backward.default, (logits.detach(), torch.tensor(2.0, device=device)))
    torch.library.opcheck(op.pu_moments.default, (logits.detach(), labels))
    torch.library.opcheck(op.pu_probability_sums.default, (logits.detach(), labels, moments, 1.0, 1e-2))
    torch.library.opcheck(op.pu_finish.default, (logits.detach(), labels, moments, sums, 1.0, 0.55, 1e-2, 2.0))


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    logits, labels = CASES[10](torch.float32, device)
    weight = torch.randn(80, 80, device=device) / 9

    def step(weight):
        weight = weight.detach().requires_grad_()
        loss = pu_loss(logits @ weight, labels)
        return loss, *torch.autograd.grad(loss, weight)

    def loss_of(weight):
        return pu_loss(logits @ weight, labels)

    weight.requires_grad_()
    compiled = torch.compile(loss_of, fullgraph=True)(weight)
    (gradient,) = torch.autograd.grad(compiled, weight)
    expected, expected_gradient = step(weight)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="this processor has one table of kernels")
@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_as_exact(instruction_set):
    environment = {**os.environ, "PUMLC_CPU_ISA": instruction_set}
    ask = [sys.executable, "-c", "import pumlc; print(pumlc.build_info()['cpu_instruction_set'])"]
    chosen = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    if chosen != instruction_set:
        pytest.skip(f"this processor has no {instruction_set}: it falls back to {chosen}")
    tests = [os.path.dirname(__file__), "-k", "(exact_as_eager or phases) and cpu", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run([sys.executable, "-m", "pytest", *tests], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout


# A small GPU, one on which tiles are wide, one whose blocks hold few rows (the phases run instead), an H200.
GPUS = {"small": (16, 99 * 1024), "wide": (2, 227 * 1024), "little shared memory": (132, 9 * 1024), "H200": H200}


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("case", CASES[:11], ids=lambda case: case.name)
def test_any_order_of_threads_gives_the_same_bits(case, gpu, emulated):
    multiprocessors, shared_memory = GPUS[gpu]
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            logits, labels = case(torch.float32, "cpu")
            results.append([*loss_and_gradient(pu_loss, logits, labels), *in_phases(logits, labels, 2)])
    assert_same_bits(results)
    logits, labels = case(torch.float32, "cpu")
    eager = loss_and_gradient(reference.pu_loss, logits, labels)
    truth = loss_and_gradient(reference.pu_loss, logits.double(), labels)
    for position in (0, 1):
        assert_as_exact_as_eager(results[0][position], eager[position], truth[position])
