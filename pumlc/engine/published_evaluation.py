"""What the paper's code reports: the highest scores that it ever saw on the test set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pumlc.metrics.f1 import f1_at
from pumlc.metrics.scores import score

NAME = "published evaluation (test-set maxima)"
THRESHOLDS = tuple(hundredth / 100 for hundredth in range(1, 100))


class TestSetMaxima:
    """The highest mAP, CF1 and OF1 in percent, each by itself, over thresholds, evaluations and kinds of weights.

    Everything is chosen on the very images that it is measured on, so these are no measure of accuracy: they are there
    to be compared with numbers that came about in the same way. As in the paper's code an entry is chosen from its
    threshold on, and what is unknown counts as negative. Unlike there every image counts, also those of the last batch,
    and classes without a positive are left out, where that code gets a CF1 of 0.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    def __init__(self) -> None:
        self.values = {"mAP": 0.0, "CF1": 0.0, "OF1": 0.0}

    def update(self, logits: Mapping[str, Tensor], labels: Tensor) -> None:
        """Take one evaluation in: logits [N, C] by kind of weights, and the true labels [N, C] int8."""
        labels = torch.where(labels == 1, labels, -1)
        thresholds = torch.tensor(THRESHOLDS, dtype=torch.float64)
        for rows in logits.values():
            self._raise("mAP", score(rows, labels).mean_ap)
            cf1, of1 = f1_at(rows.double().sigmoid(), labels, thresholds)
            self._raise("CF1", float(cf1.max()))
            self._raise("OF1", float(of1.max()))

    def _raise(self, name: str, value: float) -> None:
        self.values[name] = max(self.values[name], value)  # in this order NaN, of no class at all, changes nothing

    def summary(self) -> str:
        """One line for the person at the console."""
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in self.values.items())
        return f"{NAME}: {numbers}. Chosen on the test set itself: not the accuracy of any one model."
