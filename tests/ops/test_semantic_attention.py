"""pumlc.ops.semantic_attention against its specification, pumlc.ops.reference.semantic_attention."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch

from pumlc.ops import reference, semantic_attention
from tests.cases import (
    DTYPES,
    assert_as_exact_as_eager,
    assert_same_bits,
    assert_same_bits_on_any_number_of_threads,
)
from tests.native.library import H200
from tests.semantic_cases import CASES

pytestmark = pytest.mark.usefixtures("poisoned_memory")

NAMED = {case.name: case for case in CASES}


def scores_and_gradients(function, features, words, v, upstream):
    """The scores [B, C, P] and the gradients of features, words and v."""
    inputs = [tensor.detach().requires_grad_() for tensor in (features, words, v)]
    out = function(*inputs)
    return out.detach(), *torch.autograd.grad(out, inputs, upstream)


def assert_exact(tensors, results) -> None:
    eager = scores_and_gradients(reference.semantic_attention, *tensors)
    truth = scores_and_gradients(reference.semantic_attention, *(tensor.double() for tensor in tensors))
    for result, like, true in zip(results, eager, truth, strict=True):
        assert result.dtype == like.dtype
        assert_as_exact_as_eager(result, like, true)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_as_exact_as_eager(case, dtype, device):
    tensors = case(dtype, device)
    results = scores_and_gradients(semantic_attention, *tensors)
    assert_exact(tensors, results)
    assert all(result.is_contiguous() for result in results)


def test_values_worked_out_by_hand(device):
    third = math.log(2) / 2  # tanh of it is 1/3
    features = torch.tensor([[[third, 1.0], [-2 * third, 0.0]]], dtype=torch.float64, device=device)  # two positions
    words = torch.tensor([[1.0, 0.0]], dtype=torch.float64, device=device)
    v = torch.tensor([6.0, 5.0], dtype=torch.float64, device=device)
    upstream = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64, device=device)
    out, dfeatures, dwords, dv = scores_and_gradients(semantic_attention, features, words, v, upstream)
    assert out.flatten().tolist() == pytest.approx([2.0, -3.6])
    slope = 8 / 9
    assert dfeatures.flatten().tolist() == pytest.approx([6 * slope, 0.0, 0.0, 0.0])
    assert dwords.flatten().tolist() == pytest.approx([6 * slope * third, 5.0])
    assert dv.tolist() == pytest.approx([1 / 3, 0.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tanh_over_its_whole_range(dtype, device):
    """One product per score: the scores are tanh, the gradient of features its slope."""
    x = torch.cat([torch.logspace(-30, 2.5, 3000, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    x = torch.cat([x, -x]).to(device, dtype)
    one = torch.ones(1, 1, dtype=dtype, device=device)
    out, slope, *_ = scores_and_gradients(
        semantic_attention, x[None, :, None], one, one[0], torch.ones_like(x)[None, None]
    )
    exact = x.double()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out.flatten().double(), exact.tanh(), rtol=3 * eps, atol=0)
    e = torch.exp(-2 * exact.abs())
    # float32: beyond |x| = 19 slopes are 0; float64: the slope is 1 - tanh^2, as in eager PyTorch
    rtol, atol = (4 * eps, 2**-52) if dtype == torch.float32 else (0, 4 * eps)
    torch.testing.assert_close(slope.flatten().double(), 4 * e / (1 + e) ** 2, rtol=rtol, atol=atol)


def test_gradcheck(device):
    tensors = [torch.randn(size, dtype=torch.float64, device=device) for size in ((2, 3, 4), (3, 4), (4,))]
    assert torch.autograd.gradcheck(semantic_attention, [tensor.requires_grad_() for tensor in tensors])


def test_second_derivative_is_a_clear_error(device):
    features, words, v, _ = NAMED["primes"](torch.float32, device)
    out = semantic_attention(features.requires_grad_(), words, v)
    with pytest.raises(RuntimeError, match="semantic_attention has no second derivative"):
        torch.autograd.grad(out.sum(), features, create_graph=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", range(4), ids=["features", "words", "v", "upstream"])
def test_what_is_not_finite_goes_where_it_does_in_eager(which, value, device):
    tensors = NAMED["primes"](torch.float32, device)
    tensors[which].view(-1)[-1] = value
    results = scores_and_gradients(semantic_attention, *tensors)
    expected = scores_and_gradients(reference.semantic_attention, *tensors)
    for result, like in zip(results, expected, strict=True):
        assert torch.equal(result.isfinite(), like.isfinite())


def test_parameters_of_another_dtype(device):
    """As under autocast: features and words of a linear layer, v of float32 parameters."""
    features, words, v, upstream = NAMED["VOC"](torch.bfloat16, device)
    v = v.float()
    results = scores_and_gradients(semantic_attention, features, words, v, upstream)
    assert [result.dtype for result in results] == [torch.bfloat16] * 3 + [torch.float32]
    same = scores_and_gradients(semantic_attention, features, words.float(), v, upstream)
    for result, like in zip(results, same, strict=True):
        assert torch.equal(result, like.to(result.dtype))


def test_gradient_of_one_input_alone(device):
    tensors = NAMED["primes"](torch.float32, device)
    expected = scores_and_gradients(semantic_attention, *tensors)
    *inputs, upstream = tensors
    for i in range(3):
        leaf = inputs[i].detach().requires_grad_()
        out = semantic_attention(*inputs[:i], leaf, *inputs[i + 1 :])
        assert torch.equal(torch.autograd.grad(out, leaf, upstream)[0], expected[1 + i])


@pytest.mark.parametrize("name", ["primes", "many positions", "many classes"])
def test_same_input_same_bits_on_any_number_of_threads(name, device):
    tensors = NAMED[name](torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: scores_and_gradients(semantic_attention, *tensors))


# One multiprocessor makes few shares of the rows, an H200 many.
@pytest.mark.parametrize("gpu", [(1, 99 * 1024), H200], ids=["small", "H200"])
@pytest.mark.parametrize("name", ["one class", "primes", "many positions"])
def test_any_order_of_threads_gives_the_same_bits(name, gpu, emulated):
    multiprocessors, shared_memory = gpu
    tensors = NAMED[name](torch.float32, "cpu")
    results = []
    for order in range(3):
        with emulated.installed(multiprocessors=multiprocessors, shared_memory=shared_memory, order=order):
            results.append(scores_and_gradients(semantic_attention, *NAMED[name](torch.float32, "cpu")))
    assert_same_bits(results)
    assert_exact(tensors, results[0])


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2"])
def test_every_instruction_set(instruction_set):
    """In a process of its own, for the kernels are chosen once."""
    program = """
import torch
from pumlc.ops import build_info
from tests.ops.test_semantic_attention import NAMED, assert_exact, scores_and_gradients, semantic_attention
for name in ("primes", "small products", "products of +-80"):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        tensors = NAMED[name](dtype, "cpu")
        assert_exact(tensors, scores_and_gradients(semantic_attention, *tensors))
print(build_info()["cpu_instruction_set"])
"""
    environment = {**os.environ, "PUMLC_CPU_ISA": instruction_set}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() in ("baseline", instruction_set)  # the processor may lack avx2


@pytest.mark.parametrize(
    ("features", "words", "v", "message"),
    [
        ((4, 3), (2, 3), (3,), r"features: got shape \[4, 3\], wanted \[B, P, D\]"),
        ((2, 0, 3), (2, 3), (3,), "features: got shape .* at least one position and one dimension"),
        ((2, 4, 3), (2, 4), (3,), r"words: got shape \[2, 4\], wanted \[C, 3\]"),
        ((2, 4, 3), (0, 3), (3,), r"words: got shape \[0, 3\], wanted \[C, 3\] with at least one class"),
        ((2, 4, 3), (2, 3), (1, 3), r"v: got shape \[1, 3\], wanted \[3\]"),
    ],
)
def test_bad_shapes_are_named(features, words, v, message, device):
    with pytest.raises(ValueError, match=message):
        semantic_attention(*(torch.zeros(size, device=device) for size in (features, words, v)))


def test_bad_dtypes_are_named(device):
    features, words, v, _ = NAMED["one class"](torch.float32, device)
    with pytest.raises(TypeError, match="features: got dtype Int"):
        semantic_attention(features.int(), words, v)
    with pytest.raises(TypeError, match="words: got dtype Int"):
        semantic_attention(features, words.int(), v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype, device):
    features, words, v, upstream = NAMED["one position"](dtype, device)
    op = torch.ops.pumlc
    inputs = [tensor.clone().requires_grad_() for tensor in (features, words, v)]
    torch.library.opcheck(op.semantic_attention.default, inputs)
    torch.library.opcheck(op.semantic_attention_backward.default, (upstream, features, words, v))


@pytest.mark.slow
def test_compiles_to_one_graph(device):
    tensors = NAMED["primes"](torch.float32, device)

    def doubled(features, words, v):
        return semantic_attention(2 * features, words, v).sin()

    results = scores_and_gradients(torch.compile(doubled, fullgraph=True), *tensors)
    expected = scores_and_gradients(doubled, *tensors)
    for result, like in zip(results, expected, strict=True):
        torch.testing.assert_close(result, like)
