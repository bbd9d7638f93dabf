"""How a network learns clean labels before wrong ones: its losses on what was dropped, where the truth is known.

As in the first figure of Large Loss Matters (arXiv 2206.03740).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from pumlc.engine.distributed import World
from pumlc.engine.whole_files import write_atomically
from pumlc.errors import MissingPackageError, require

KINDS = ("true_negatives", "false_negatives")
_NONE = len(KINDS)


class Memorisation:
    """Mean cross-entropy, epoch by epoch, of unknown labels as if they were negatives: of those that are, and that are
    not.

    It is that of the augmented images on which the network trains, as it is in each step. Nothing waits for the device
    but :meth:`end_epoch` and :meth:`state_dict`, which all processes call together.

    Does nothing where no positive label was dropped.

    Args:
        truth: [N, C] int8, the complete labels.
        observed: [N, C] int8, what of them the training knows.
    """

    def __init__(self, truth: np.ndarray, observed: np.ndarray, world: World) -> None:
        kinds = np.full(truth.shape, _NONE, np.uint8)
        for kind, sign in enumerate((-1, 1)):
            kinds[(observed == 0) & (truth == sign)] = kind
        self.is_known = bool((kinds == KINDS.index("false_negatives")).any())
        self._kinds = torch.from_numpy(kinds).to(world.device) if self.is_known else None
        self._world = world
        self._sums = torch.zeros(2, len(KINDS), dtype=torch.float64, device=world.device)  # losses; how many
        self.history: list[dict[str, float | None]] = []
        """A mean for each of KINDS and each epoch, None where there is nothing of the kind; and the epoch from 1."""

    def add(self, index: Tensor, logits: Tensor) -> None:
        """Count a step: index [B] int64, rows of the label matrix; logits [B, C]."""
        if self._kinds is None:
            return
        loss, kinds = softplus(logits.float()), self._kinds[index]
        masks = [kinds == kind for kind in range(len(KINDS))]
        self._sums[0] += torch.stack([torch.where(mask, loss, 0.0).sum(dtype=torch.float64) for mask in masks])
        self._sums[1] += torch.stack([mask.sum() for mask in masks])

    def end_epoch(self, epoch: int) -> None:
        """Put the means of the epoch, which counts from 0, into the history."""
        losses, counts = self._world.sum(self._sums.clone()).tolist()
        self._sums.zero_()
        means = [loss / count if count else None for loss, count in zip(losses, counts, strict=True)]
        self.history.append({"epoch": epoch + 1, **dict(zip(KINDS, means, strict=True))})

    def state_dict(self) -> dict[str, Any]:
        """The history, and the sums of the epoch, those of each process by themselves."""
        return {"history": self.history, "sums": self._world.gather(self._sums.cpu())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, which another number of processes may have made."""
        self.history = list(state["history"])
        own = self._world.own(state["sums"])
        if own is None:
            own = sum(state["sums"]) if self._world.is_main else torch.zeros_like(self._sums)
        self._sums.copy_(own)

    def draw(self, run: Path, title: str) -> str:
        """Draw the history into report/memorisation.png of a run folder.

        Returns:
            A line for the person at the console: where it is, or what is missing for it.
        """
        path = run / "report" / "memorisation.png"
        try:
            figure_class = require("matplotlib.figure", "matplotlib").Figure  # needs no display
        except MissingPackageError as error:
            return f"{path} is not drawn. {error}"
        figure = figure_class(figsize=(6.4, 4.0), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        epochs = [entry["epoch"] for entry in self.history]
        for kind, colour, mark in zip(KINDS, ("tab:blue", "tab:red"), "os", strict=True):
            values = [entry[kind] if entry[kind] is not None else float("nan") for entry in self.history]
            axes.plot(epochs, values, color=colour, marker=mark, label=f"unknown: {kind.replace('_', ' ')}")
        axes.set(xlabel="epoch", ylabel="mean cross-entropy as a negative", title=title, ylim=(0, None))
        axes.locator_params(axis="x", integer=True)
        axes.legend()
        axes.grid(alpha=0.3)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda file: figure.savefig(file, format="png"))
        return f"Memorisation of noise: {path}"
