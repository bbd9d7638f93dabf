"""The weights that a run keeps in best.safetensors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pumlc
from pumlc.engine.checkpoint import save_weights
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.ema import MovingAverage
from pumlc.nn.backbone import BackboneNetwork
from pumlc.nn.pretrained import read_tensors


class KeptWeights:
    """Writes the weights of a model, or their average, and reads them back.

    Args:
        run: the folder of the run.
        model, average: what is written; None where there is no average.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        class_names: Sequence[str],
        model: BackboneNetwork,
        average: MovingAverage | None,
        world: World,
    ) -> None:
        self._path = run / "best.safetensors"
        self._model, self._average, self._world = model, average, world
        self._metadata: dict[str, Any] = {
            "class_names": class_names,
            "backbone": config.backbone,
            "image_size": config.image_size,
            "head": config.head,
            "boost": config.boost,
            "local_global": config.local_global,
            "pumlc": pumlc.__version__,
        }

    def save(self, kind: str, epoch: int) -> None:
        """Write those of the model, or with kind "ema" their average, as of an epoch counted from 1."""
        metadata = self._metadata | {"weights": kind, "epoch": epoch}
        with self._average.applied() if kind == "ema" else contextlib.nullcontext():
            tensors = self._model.state_dict()
            self._world.on_main(lambda: save_weights(self._path, tensors, metadata))

    def load(self) -> None:
        """Give every process's model what was written."""
        tensors = self._world.on_main(lambda: read_tensors(self._path))
        if tensors is not None:
            self._model.load_state_dict(tensors)
        self._world.copy_from_main(self._model.state_dict().values())
