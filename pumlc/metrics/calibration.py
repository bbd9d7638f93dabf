"""Temperatures and biases that make probabilities out of logits, fitted on images with known labels.

With the slope a = 1 / temperature, the probability of class c in image i is p_ic = sigmoid(a_c z_ic + b_c). For each
class, s_c = log a_c and b_c minimise

    sum over known i of cross-entropy(p_ic, y_ic)  +  PRIOR / 2 ((s_c - s)^2 + (b_c - b)^2)

where (s, b) is the same minimum for all classes as one, drawn to (0, 0), which changes nothing. A class with many
positives and negatives follows its own data; one with few follows all of them together, and one without any of either
takes what all have, its own labels saying nothing of the order of its scores. The penalty keeps the minimum
finite where the scores part positives from negatives, and the logarithm keeps the slope above 0, so that the order of
the images stays, where a class is ranked the wrong way round.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

PRIOR = 1.0
"""Weight of the penalty: as if s and b were known beforehand to within 1, a factor of 2.7 in slope or in odds."""
STEPS = 100
HALVINGS = 30
TOLERANCE = (
    1e-13  # what a last step may still gain of the loss; PRIOR being its least curvature, s and b are known to 1e-6
)
_NOISE = 1e-12  # relative, of a loss summed over millions of entries


def fit_calibration(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Temperature and bias of each class.

    Args:
        logits: [N, C], finite.
        labels: [N, C] int8: 1 positive, 0 unknown and skipped, -1 known negative.

    Returns:
        Two tensors [C] float64; the first is above 0.
    """
    logits = logits.double()
    start = logits.new_zeros(2, 1)
    shared = _minimise(logits.reshape(-1, 1), labels.reshape(-1, 1), start)
    both = (labels == 1).any(0) & (labels == -1).any(0)
    log_slope, bias = _minimise(logits, torch.where(both, labels, 0), shared.expand(-1, logits.shape[1]))
    return (-log_slope).exp(), bias


def _minimise(logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """The minimum [2, C] (s, b) of all classes at once, by Newton's method from the prior [2, C].

    The curvature is that of the cross-entropy in a and b, which is never negative (Fisher scoring in s); a step that
    does not lower a class's loss is halved for that class alone.
    """
    known, target = labels != 0, (labels == 1).double()

    def loss(parameters: Tensor) -> Tensor:
        shifted = parameters[0].exp() * logits + parameters[1]
        entropy = torch.where(known, softplus(shifted) - target * shifted, 0.0).sum(0)
        return entropy + PRIOR / 2 * (parameters - prior).square().sum(0)

    parameters, value = prior.clone(), loss(prior)
    for _ in range(STEPS):
        scaled = parameters[0].exp() * logits  # the derivative of the shifted logit by s; that by b is 1
        probability = (scaled + parameters[1]).sigmoid()
        residual = torch.where(known, probability - target, 0.0)
        weight = torch.where(known, probability * (1 - probability), 0.0)
        gradient = torch.stack([(residual * scaled).sum(0), residual.sum(0)]) + PRIOR * (parameters - prior)
        ss, sb = (weight * scaled.square()).sum(0) + PRIOR, (weight * scaled).sum(0)
        bb = weight.sum(0) + PRIOR
        step = torch.stack([bb * gradient[0] - sb * gradient[1], ss * gradient[1] - sb * gradient[0]])
        step = step / (ss * bb - sb.square())
        if float((step * gradient).sum(0).max()) <= 2 * TOLERANCE:
            break
        for _ in range(HALVINGS):
            moved = loss(parameters - step)
            worse = ~(moved <= value * (1 + _NOISE))
            if not worse.any():
                break
            step = torch.where(worse, step / 2, step)
        parameters, value = parameters - step, moved
    return parameters
