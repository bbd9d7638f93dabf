"""The fit against scikit-learn, against its own derivatives, and where there is hardly anything to fit to."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pumlc.metrics.calibration import PRIOR, fit_calibration
from tests.metrics.examples import random_scores


def loss(parameters: Tensor, logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """What the fit minimises: of log slopes and biases [2, C], drawn to the prior [2, 1]."""
    shifted = parameters[0].exp() * logits.double() + parameters[1]
    known = labels != 0
    entropy = binary_cross_entropy_with_logits(shifted[known], (labels[known] == 1).double(), reduction="sum")
    return entropy + PRIOR / 2 * (parameters - prior).square().sum()


def pooled_minimum(logits: Tensor, labels: Tensor) -> Tensor:
    """That of all classes as one, drawn to 0, by an optimiser that knows nothing of the problem: [2, 1]."""
    parameters = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    data = logits.reshape(-1, 1), labels.reshape(-1, 1), torch.zeros(2, 1)
    optimiser = torch.optim.LBFGS([parameters], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(parameters, *data)
        value.backward()
        return value

    optimiser.step(closure)
    return parameters.detach()


@pytest.mark.parametrize("images", [20, 50, 4000])
def test_the_derivatives_vanish(images):
    logits, labels = random_scores(images, 5, seed=images)
    logits = 3 * logits - torch.arange(5)
    temperature, bias = fit_calibration(logits, labels)
    parameters = torch.stack([-temperature.log(), bias]).requires_grad_()
    (found,) = torch.autograd.grad(loss(parameters, logits, labels, pooled_minimum(logits, labels)), parameters)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-4)


def test_with_many_images_it_is_a_logistic_regression():
    logits, labels = random_scores(20000, 4, seed=0)
    temperature, bias = fit_calibration(logits, labels)
    for c in range(4):
        known = labels[:, c] != 0
        model = LogisticRegression(C=1e9).fit(logits[known, c : c + 1], labels[known, c] == 1)
        assert float(1 / temperature[c]) == pytest.approx(model.coef_.item(), rel=0.01)
        assert float(bias[c]) == pytest.approx(model.intercept_.item(), abs=0.02)


def test_it_finds_what_was_done_to_the_logits():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(50000, 3, generator=generator)
    temperature, bias = torch.tensor([0.3, 1.0, 8.0]), torch.tensor([-2.0, 0.0, 1.0])
    labels = torch.where(torch.rand(50000, 3, generator=generator) < logits.sigmoid(), 1, -1).to(torch.int8)
    found = fit_calibration((logits - bias) * temperature, labels)
    torch.testing.assert_close(found[0].float(), temperature, rtol=0.05, atol=0)
    torch.testing.assert_close(found[1].float(), bias, rtol=0.05, atol=0.05)


def test_a_class_without_both_signs_takes_the_fit_of_all():
    logits, labels = random_scores(3000, 3, seed=1)
    labels[:, 2] = 0
    temperature, bias = fit_calibration(logits, labels)
    expected = pooled_minimum(logits, labels)[:, 0]
    assert (-temperature[2].log(), bias[2]) == pytest.approx(expected.tolist(), abs=1e-5)
    for sign in (-1, 1):  # of one sign alone, which still counts in the fit of all
        labels[:, 2] = sign
        found = fit_calibration(logits, labels)
        expected = pooled_minimum(logits, labels)[:, 0]
        assert (-found[0][2].log(), found[1][2]) == pytest.approx(expected.tolist(), abs=1e-5)
    labels[:, 2] = 0
    labels[:2, 2] = torch.tensor([1, -1])  # two images move it a little
    moved = fit_calibration(logits, labels)
    assert 1e-4 < abs(float(moved[1][2] - bias[2])) < 0.5
    nothing = fit_calibration(logits, torch.zeros_like(labels))
    assert nothing[0].tolist() == [1.0] * 3
    assert nothing[1].tolist() == [0.0] * 3


def test_separable_reversed_and_huge_classes_stay_finite():
    sign = torch.tensor([1.0, -1.0]).repeat(500)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    logits = torch.stack([sign, -2 * sign + noise, 1e4 * sign, 1e-4 * sign, torch.full((1000,), 80.0)], 1)
    labels = sign[:, None].expand(-1, 5).to(torch.int8)
    temperature, bias = fit_calibration(logits, labels)
    assert temperature.isfinite().all()
    assert bias.isfinite().all()
    assert (temperature > 0).all()
    probability = (logits.double() / temperature + bias).sigmoid()
    assert probability[sign > 0, 0].min() > 0.99 > 0.01 > probability[sign < 0, 0].max()
    assert temperature[1] > temperature[0]  # ranked the wrong way round: nearly flat, not turned round
    assert (probability[:, 1] - 0.5).abs().max() < 0.2
    assert float(probability[0, 4]) == pytest.approx(0.5, abs=0.05)  # says nothing: the share of positives
