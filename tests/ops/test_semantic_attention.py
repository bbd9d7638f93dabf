"""pumlc.ops.semantic_attention against its specification, pumlc.ops.reference.semantic_attention."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from pumlc.ops import reference, semantic_attention
from tests.cases import DTYPES, assert_as_exact_as_eager, assert_same_bits_on_any_number_of_threads
from tests.native.library import SANITIZED

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# images, positions, classes, features
SHAPES = {
    "no image": (0, 4, 3, 8),
    "one of each": (1, 1, 1, 1),
    "one position": (3, 1, 5, 16),
    "one class": (2, 6, 1, 17),
    "primes": (2, 7, 13, 41),
    "VOC": (2, 49, 20, 512),
}


@pytest.fixture(params=[SANITIZED] if SANITIZED else ["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Not the emulated GPU: there is no CUDA kernel, a GPU runs the reference."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if request.param in ("cpu", "cuda"):
        yield torch.device(request.param)
        return
    if request.param.startswith("emulated"):
        pytest.skip("no CUDA kernel to emulate")
    with request.getfixturevalue("native").installed():
        yield torch.device("cpu")


def make_inputs(shape, dtype, device, scale=1.0) -> list[torch.Tensor]:
    """features [B, P, D], words [C, D], v [D]"""
    images, positions, classes, width = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = ((images, positions, width), (classes, width), (width,))
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    tensors[0] *= scale
    return [tensor.to(device, dtype) for tensor in tensors]


def scores_and_gradients(function, inputs, upstream=None):
    """out [B, C, P] and the gradients of features, words and v"""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    out = function(*inputs)
    if upstream is None:
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(out)
    return out.detach(), *torch.autograd.grad(out, inputs, upstream.to(out))


def assert_exact(inputs) -> None:
    results = scores_and_gradients(semantic_attention, inputs)
    eager = scores_and_gradients(reference.semantic_attention, inputs)
    upstream = torch.randn(eager[0].shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    upstream = upstream.to(eager[0]).double()  # as rounded to the dtype
    truth = scores_and_gradients(reference.semantic_attention, [tensor.double() for tensor in inputs], upstream)
    for result, like, true in zip(results, eager, truth, strict=True):
        assert result.dtype == inputs[0].dtype
        assert_as_exact_as_eager(result, like, true)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_is_as_exact_as_eager(shape, dtype, device):
    assert_exact(make_inputs(shape, dtype, device))


@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_where_the_hyperbolic_tangent_is_linear_or_flat(scale, device):
    assert_exact(make_inputs(SHAPES["primes"], torch.float32, device, scale))


def test_inputs_that_do_not_lie_in_a_row(device):
    features, words, v = make_inputs(SHAPES["primes"], torch.float32, device)
    strided = [features.mT.contiguous().mT, words.T.contiguous().T, v.repeat_interleave(2)[::2]]
    for result, expected in zip(
        scores_and_gradients(semantic_attention, strided),
        scores_and_gradients(semantic_attention, [features, words, v]),
        strict=True,
    ):
        assert torch.equal(result, expected)


def test_values_worked_out_by_hand(device):
    features = torch.tensor([[[math.atanh(0.5), math.atanh(0.25)]]], dtype=torch.float64, device=device)
    words = torch.tensor([[1.0, -1.0]], dtype=torch.float64, device=device)
    v = torch.tensor([2.0, 4.0], dtype=torch.float64, device=device)
    out, *gradients = scores_and_gradients(semantic_attention, [features, words, v], torch.ones(1, 1, 1))
    assert out.item() == pytest.approx(2 * 0.5 - 4 * 0.25)
    slopes = (2 * (1 - 0.25), 4 * (1 - 0.0625))
    assert gradients[0].flatten().tolist() == pytest.approx([slopes[0], -slopes[1]])
    assert gradients[1].flatten().tolist() == pytest.approx([slopes[0] * math.atanh(0.5), slopes[1] * math.atanh(0.25)])
    assert gradients[2].tolist() == pytest.approx([0.5, -0.25])


def test_gradcheck(device):
    inputs = [tensor.requires_grad_() for tensor in make_inputs((2, 3, 2, 5), torch.float64, device)]
    assert torch.autograd.gradcheck(semantic_attention, inputs)


def test_same_input_same_bits_on_any_number_of_threads(device):
    inputs = make_inputs(SHAPES["VOC"], torch.float32, device)
    assert_same_bits_on_any_number_of_threads(lambda: scores_and_gradients(semantic_attention, inputs))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_product_of_infinity_is_flat_and_one_of_nan_is_seen(value, device):
    features, words, v = make_inputs(SHAPES["primes"], torch.float32, device)
    features[1, 2, 3] = value
    out = semantic_attention(features, words, v)
    assert torch.equal(out.isnan(), reference.semantic_attention(features, words, v).isnan())


def test_second_derivative_is_a_clear_error():
    inputs = [tensor.requires_grad_() for tensor in make_inputs((1, 2, 2, 3), torch.float32, "cpu")]
    with pytest.raises(RuntimeError, match="semantic_attention has no second derivative"):
        torch.autograd.grad(semantic_attention(*inputs).sum(), inputs, create_graph=True)


def test_shapes_that_do_not_fit_are_named():
    features, words, v = make_inputs((2, 3, 4, 5), torch.float32, "cpu")
    with pytest.raises(ValueError, match="words"):
        semantic_attention(features, words[:, :4], v)
    with pytest.raises(ValueError, match="v"):
        semantic_attention(features, words, v[:4])
    with pytest.raises(ValueError, match="features"):
        semantic_attention(features[0], words, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_custom_op_contract(dtype):
    inputs = [tensor.requires_grad_() for tensor in make_inputs((2, 3, 4, 5), dtype, "cpu")]
    torch.library.opcheck(torch.ops.pumlc.semantic_attention.default, tuple(inputs))


def test_compiles_without_graph_breaks():
    inputs = make_inputs(SHAPES["primes"], torch.float32, "cpu")
    compiled = torch.compile(semantic_attention, fullgraph=True, backend="aot_eager")
    results = scores_and_gradients(compiled, inputs)
    assert all(map(torch.equal, results, scores_and_gradients(semantic_attention, inputs)))
