"""The elementwise losses by name: what each is, its parameters, and the values that were published for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

_INF = float("inf")
_COLE = "Multi-Label Learning from Single Positive Labels, arXiv 2106.09708"
_ZHANG = "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels, arXiv 2112.07368"


class Parameter(NamedTuple):
    """A number that a loss takes."""

    default: float
    """As published."""
    lowest: float
    highest: float
    meaning: str


class LossKind(NamedTuple):
    """One loss."""

    title: str
    source: str
    """Where it was published."""
    mean: bool
    """The terms are averaged over all images and classes; otherwise added up."""
    parameters: Mapping[str, Parameter] = MappingProxyType({})
    """In the order in which the kernels take them."""


_GAMMA = Parameter(2.0, 0.0, _INF, "exponent of the focal weight")
_MARGIN = Parameter(1.0, 0.0, _INF, "taken from the logit of a positive")

LOSS_KINDS: Mapping[str, LossKind] = MappingProxyType(
    {
        "an": LossKind("assume negative", "binary cross-entropy", True),
        "ignore": LossKind("ignore unobserved", "binary cross-entropy where the label is known", True),
        "wan": LossKind("weak assume negative", _COLE, True),
        "ls": LossKind(
            "label smoothing",
            _COLE,
            True,
            {"smoothing": Parameter(0.1, 0.0, 0.5, "share of the other answer in a target")},
        ),
        "focal": LossKind(
            "focal loss", "Focal Loss for Dense Object Detection, arXiv 1708.02002", True, {"gamma": _GAMMA}
        ),
        "asl": LossKind(
            "asymmetric loss",
            "Asymmetric Loss For Multi-Label Classification, arXiv 2009.14119",
            False,
            {
                "gamma_neg": Parameter(4.0, 0.0, _INF, "exponent of the focal weight where not positive"),
                "gamma_pos": Parameter(0.0, 0.0, _INF, "exponent of the focal weight of a positive"),
                "clip": Parameter(0.05, 0.0, 0.99, "taken from the probability where not positive"),
            },
        ),
        "hill": LossKind(
            "Hill loss",
            _ZHANG,
            False,
            {
                "margin": _MARGIN,
                "gamma": _GAMMA,
                "lamb": Parameter(1.5, 0.0, _INF, "lambda of (lambda - p) p^2, whose slope is 0 at p = 2/3 lambda"),
            },
        ),
        "splc": LossKind(
            "self-paced loss correction",
            _ZHANG,
            False,
            {
                "margin": _MARGIN,
                "gamma": _GAMMA,
                "tau": Parameter(0.6, 0.0, 1.0, "probability above which an unobserved label counts as positive"),
                "correct": Parameter(0.0, 0.0, 1.0, "1 to correct labels, as is published after the first epoch"),
            },
        ),
        "em": LossKind(
            "entropy maximisation",
            "Acknowledging the Unknown for Multi-label Learning with Single Positive Labels, arXiv 2203.16219",
            True,
            {"alpha": Parameter(0.1, 0.0, _INF, "weight of the entropy; VOC 0.2, COCO and NUS-WIDE 0.1, CUB 0.01")},
        ),
        "gr": LossKind(
            "generalised robust loss",
            "Boosting Single Positive Multi-label Classification with Generalized Robust Loss, arXiv 2405.03501",
            True,
            {
                "w": Parameter(0.0, -_INF, _INF, "k = sigmoid(w p + b), published: from 0 to 2 over the epochs"),
                "b": Parameter(-2.0, -_INF, _INF, "k = sigmoid(w p + b)"),
                "mu": Parameter(0.5, -_INF, _INF, "mean of the weight's Gaussian, published: to 0.8 over the epochs"),
                "sigma": Parameter(2.0, 1e-3, _INF, "its standard deviation, published: to 0.5 over the epochs"),
                "q2": Parameter(0.01, 1e-6, _INF, "exponent of the loss of a false negative"),
                "q3": Parameter(1.0, 1e-6, _INF, "exponent of the loss of a true negative"),
            },
        ),
    }
)
"""In the order of the table of :func:`pumlc.ops.elementwise_loss`."""


def loss_parameters(kind: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every parameter of a loss, in the order of :data:`LOSS_KINDS`: as given, or else its default.

    Raises:
        ValueError: no such loss, no such parameter of it, or a value outside its range.
    """
    if kind not in LOSS_KINDS:
        raise ValueError(f"kind: got {kind!r}, wanted one of {', '.join(LOSS_KINDS)}")
    parameters = LOSS_KINDS[kind].parameters
    for name, value in given.items():
        if name not in parameters:
            wanted = f"one of {', '.join(parameters)}" if parameters else "none"
            raise ValueError(f"{name}: {kind} has no such parameter, wanted {wanted}")
        _, lowest, highest, _ = parameters[name]
        if not (lowest <= value <= highest and abs(value) < _INF):
            raise ValueError(f"{name}: got {value:g}, wanted between {lowest:g} and {highest:g}")
    return {name: float(given.get(name, parameter.default)) for name, parameter in parameters.items()}
