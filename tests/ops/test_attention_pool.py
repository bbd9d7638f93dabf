"""pumlc.ops.attention_pool against its specification, pumlc.ops.reference.attention_pool."""

from __future__ import annotations

import math

import pytest
import torch

from pumlc.ops import attention_pool, reference
from tests.cases import DTYPES, assert_as_exact_as_eager, assert_same_bits, assert_same_bits_on_any_number_of_threads
from tests.feature_maps import FEATURE_MAPS
from tests.native.library import H200

pytestmark = pytest.mark.usefixtures("poisoned_memory")

MAPS = {case.name: case for case in FEATURE_MAPS}
GROUPED = [case for case in FEATURE_MAPS if case.shape[1] % case.heads == 0]
BOTH = [*((case, False) for case in FEATURE_MAPS), *((case, True) for case in GROUPED)]
NAMES = [f"{case.name}{', grouped' if grouped else ''}" for case, grouped in BOTH]


def upstream_of(pooled: torch.Tensor) -> torch.Tensor:
    """The gradient that comes from above, the same for every provider up to rounding."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(pooled.shape, generator=generator, dtype=torch.float64).to(pooled)


def pool_and_gradients(function, x, scores, *, grouped=False, upstream=None):
    """pooled [B, K, C] or [B, C], and the gradients of x and scores for upstream, of the shape of pooled"""
    inputs = [x.detach().requires_grad_(), scores.detach().requires_grad_()]
    pooled = function(*inputs, grouped=grouped)
    upstream = upstream_of(pooled) if upstream is None else upstream
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, upstream.to(pooled))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "grouped"), BOTH, ids=NAMES)
def test_is_as_exact_as_eager(case, grouped, dtype, device):
    x, scores = case.features(dtype, device), case.scores(dtype, device)
    results = pool_and_gradients(attention_pool, x, scores, grouped=grouped)
    eager = pool_and_gradients(reference.attention_pool, x, scores, grouped=grouped)
    upstream = upstream_of(eager[0]).double()  # as rounded to the dtype
    truth = pool_and_gradients(
        reference.attention_pool, x.double(), scores.double(), grouped=grouped, upstream=upstream
    )
    for result, like, true in zip(results, eager, truth, strict=True):
        assert result.dtype == dtype
        assert_as_exact_as_eager(result, like, true)
    assert results[1].is_contiguous(memory_format=torch.channels_last)


def test_values_worked_out_by_hand(device):
    x = torch.tensor([[[[1.0, 5.0]], [[2.0, -2.0]]]], dtype=torch.float64, device=device)  # two channels, two positions
    scores = torch.tensor([[[[0.0, math.log(3)]]]], dtype=torch.float64, device=device)  # weights 1/4 and 3/4
    pooled, dx, dscores = pool_and_gradients(attention_pool, x, scores, upstream=torch.tensor([[[1.0, 0.0]]]))
    assert pooled.flatten().tolist() == pytest.approx([4.0, -1.0])
    assert dx.flatten().tolist() == pytest.approx([0.25, 0.75, 0.0, 0.0])
    assert dscores.flatten().tolist() == pytest.approx([0.25 * (1 - 4), 0.75 * (5 - 4)])


@pytest.mark.parametrize("grouped", [False, True])
def test_gradcheck(grouped, device):
    x = torch.randn(2, 6, 3, 2, dtype=torch.float64, device=device, requires_grad=True)
    scores = torch.randn(2, 3, 3, 2, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: attention_pool(*inputs, grouped=grouped), (x, scores))


def test_second_derivative_is_a_clear_error(device):
    x = MAPS["primes"].features(torch.float32, device).requires_grad_()
    pooled = attention_pool(x, MAPS["primes"].scores(torch.float32, device))
    with pytest.raises(RuntimeError, match="attention_pool has no second derivative"):
        torch.autograd.grad(pooled.sum(), x, create_graph=True)


def added_to(x, scores, *, grouped=False, upstream=None):
    """pooled, the gradient of x added to that of the squares of x, the gradient of scores"""
    op = torch.ops.pumlc
    pooled, means, statistics = op.attention_pool(x, scores, grouped)
    upstream = upstream_of(pooled) if upstream is None else upstream
    x_gradient = (2 * x).contiguous(memory_format=torch.channels_last)
    saved = pooled if pooled.dtype == means.dtype else means, statistics
    scores_gradient = op.attention_pool_backward_(x_gradient, upstream.to(pooled), x, scores, *saved, grouped)
    return pooled, x_gradient, scores_gradient


def added_by_autograd(x, scores, *, grouped=False, upstream=None):
    inputs = [x.detach().requires_grad_(), scores.detach().requires_grad_()]
    pooled, square = reference.attention_pool(*inputs, grouped=grouped), inputs[0].square()
    upstream = upstream_of(pooled) if upstream is None else upstream
    gradients = torch.autograd.grad([pooled, square], inputs, [upstream.to(pooled), torch.ones_like(square)])
    return pooled.detach(), *gradients


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "grouped"), BOTH, ids=NAMES)
def test_the_gradient_of_x_is_added_to_what_is_there(case, grouped, dtype, device):
    x, scores = case.features(dtype, device), case.scores(dtype, device)
    results = added_to(x, scores, grouped=grouped)
    eager = added_by_autograd(x, scores, grouped=grouped)
    upstream = upstream_of(eager[0]).double()
    truth = added_by_autograd(x.double(), scores.double(), grouped=grouped, upstream=upstream)
    for result, like, true in zip(results, eager, truth, strict=True):
        assert result.dtype == dtype
        assert_as_exact_as_eager(result, like, true)


def test_a_gradient_that_cannot_be_added_to_in_place_is_named(device):
    x, scores = (torch.randn(2, channels, 3, 5, device=device) for channels in (4, 2))
    pooled, _, statistics = torch.ops.pumlc.attention_pool(x, scores, False)
    with pytest.raises(ValueError, match=r"x_gradient: got strides \[60, 15, 5, 1\], wanted channels_last"):
        torch.ops.pumlc.attention_pool_backward_(torch.zeros_like(x), pooled, x, scores, pooled, statistics, False)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["x", "scores"])
def test_input_that_is_not_finite_gives_such_a_result(where, value, device):
    x = MAPS["primes"].features(torch.float32, device)
    scores = MAPS["primes"].scores(torch.float32, device)
    (x if where == "x" else scores)[1, 1, 3, 4] = value
    pooled, *_ = pool_and_gradients(attention_pool, x, scores)
    expected = reference.attention_pool(x, scores)
    assert torch.equal(pooled.isfinite(), expected.isfinite())
    assert not pooled.isfinite().all()


def test_scores_of_minus_infinity_are_weights_of_zero_and_finite(device):
    case = MAPS["several chunks"]
    x, scores = case.features(torch.float32, device), case.scores(torch.float32, device)
    scores[:, :, 5:] = -math.inf  # whole chunks of them
    results = pool_and_gradients(attention_pool, x, scores)
    expected = pool_and_gradients(reference.attention_pool, x, scores)
    for result, like in zip(results, expected, strict=True):
        assert result.isfinite().all()
        torch.testing.assert_close(result, like, rtol=1e-4, atol=1e-5)


def test_backward_leaves_what_it_saved(device):
    case = MAPS["primes"]
    x, scores = case.features(torch.bfloat16, device), case.scores(torch.bfloat16, device)
    inputs = [x.requires_grad_(), scores.requires_grad_()]
    pooled = attention_pool(*inputs)
    first = torch.autograd.grad(pooled.sum(), inputs, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.zero_()
    for again, expected in zip(torch.autograd.grad(pooled.sum(), inputs), kept, strict=True):
        assert torch.equal(again, expected)


@pytest.mark.parametrize("name", ["odd sides", "several chunks", "primes"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    x, scores = MAPS[name].features(torch.float32, device), MAPS[name].scores(torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: pool_and_gradients(attention_pool, x, scores))


# One multiprocessor makes few splits of the positions, an H200 many.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one channel", "primes", "more heads than a block", "several chunks"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            x, scores = MAPS[name].features(torch.float32, "cpu"), MAPS[name].scores(torch.float32, "cpu")
            results.append(pool_and_gradients(attention_pool, x, scores))
    assert_same_bits(results)
    eager = pool_and_gradients(reference.attention_pool, x, scores)
    truth = pool_and_gradients(reference.attention_pool, x.double(), scores.double(), upstream=upstream_of(eager[0]))
    for result, like, true in zip(results[0], eager, truth, strict=True):
        assert_as_exact_as_eager(result, like, true)


@pytest.mark.parametrize(
    ("x", "scores", "grouped", "error", "message"),
    [
        ((2, 4, 3), (2, 2, 3, 3), False, ValueError, r"x: got shape \[2, 4, 3\], wanted \[B, C, H, W\]"),
        ((2, 4, 0, 3), (2, 2, 0, 3), False, ValueError, r"x: got shape .* at least one channel and one position"),
        ((2, 4, 3, 3), (2, 2, 3, 2), False, ValueError, r"scores: got shape \[2, 2, 3, 2\], wanted \[2, 2, 3, 3\]"),
        ((2, 4, 3, 3), (2, 2), False, ValueError, r"scores: got shape \[2, 2\], wanted"),
        ((2, 4, 3, 3), (2, 0, 3, 3), False, ValueError, "scores: got shape .*, wanted at least one head"),
        ((2, 4, 3, 3), (2, 3, 3, 3), True, ValueError, "x: got 4 channels, wanted a multiple of the 3 heads"),
    ],
)
def test_bad_shapes_are_named(x, scores, grouped, error, message, device):
    with pytest.raises(error, match=message):
        attention_pool(torch.zeros(x, device=device), torch.zeros(scores, device=device), grouped=grouped)


def test_bad_dtypes_are_named(device):
    x = torch.zeros(2, 4, 3, 3, device=device)
    with pytest.raises(TypeError, match="x: got dtype Int"):
        attention_pool(x.int(), x.int())
    with pytest.raises(TypeError, match="scores: got dtype Double, wanted Float"):
        attention_pool(x, x.double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grouped", [False, True])
def test_opcheck(grouped, dtype, device):
    case = MAPS["contiguous"]
    x, scores = case.features(dtype, device).requires_grad_(), case.scores(dtype, device).requires_grad_()
    op = torch.ops.pumlc
    torch.library.opcheck(op.attention_pool.default, (x, scores, grouped))
    x, scores = x.detach(), scores.detach()
    pooled, means, statistics = op.attention_pool(x, scores, grouped)
    arguments = (pooled, x, scores, means if means.numel() else pooled, statistics, grouped)
    torch.library.opcheck(op.attention_pool_backward.default, arguments)
    x_gradient = torch.randn_like(x).contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(op.attention_pool_backward_.default, (x_gradient, *arguments))


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    x = MAPS["primes"].features(torch.float32, device)
    scores = MAPS["primes"].scores(torch.float32, device)

    def doubled(x, scores, grouped):
        return attention_pool(2 * x, scores, grouped=grouped).sin()

    results = pool_and_gradients(torch.compile(doubled, fullgraph=True), x, scores)
    expected = pool_and_gradients(doubled, x, scores)
    for result, like in zip(results, expected, strict=True):
        torch.testing.assert_close(result, like)
