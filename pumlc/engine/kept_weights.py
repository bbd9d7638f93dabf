"""The weights that a run keeps in best.safetensors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pumlc
from pumlc.engine.checkpoint import checkpoints, save_weights, step_of
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.ema import MovingAverage
from pumlc.engine.whole_files import link_atomically
from pumlc.nn.backbone import BackboneNetwork
from pumlc.nn.pretrained import read_metadata, read_tensors


class KeptWeights:
    """Writes the weights of a model, or their average, and reads them back.

    They lie beside the checkpoints, by the step after which they were kept: those of a checkpoint are the newest that
    are not newer than it. best.safetensors is the newest of them by another name, so that a run that goes back to a
    checkpoint goes back to its weights too.

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
        self._folder = run / "checkpoints"
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

    def save(self, kind: str, epoch: int, step: int, selected_on: str | None) -> None:
        """Write those of the model, or with kind "ema" their average, as of an epoch counted from 1.

        Args:
            selected_on: the split on which they were better than all before; None where they are simply the last.
        """
        metadata = self._metadata | {"weights": kind, "epoch": epoch, "selected_on": selected_on}
        path = self._of(step)

        def write() -> None:
            save_weights(path, tensors, metadata)
            link_atomically(path, self._path)

        with self._average.applied() if kind == "ema" else contextlib.nullcontext():
            tensors = self._model.state_dict()
            self._world.on_main(write)

    def load(self) -> None:
        """Give every process's model what was written."""
        tensors = self._world.on_main(lambda: read_tensors(self._path))
        if tensors is not None:
            self._model.load_state_dict(tensors)
        self._world.copy_from_main(self._model.state_dict().values())

    def describe(self, more: Mapping[str, Any]) -> None:
        """Put more into the header of what was written last, on the first process alone."""
        path = self._all()[-1]
        metadata = {key: json.loads(value) for key, value in read_metadata(path).items()}
        save_weights(path, read_tensors(path), metadata | more)
        link_atomically(path, self._path)

    def go_back(self, step: int) -> None:
        """Keep what was kept when the checkpoint after ``step`` was written, on the first process alone."""
        kept = self._all()
        for path in kept:
            if step_of(path) > step:
                path.unlink()
        own = [path for path in kept if step_of(path) <= step]
        if own:
            link_atomically(own[-1], self._path)
        else:
            self._path.unlink(missing_ok=True)

    def renumber(self, step: int) -> None:
        """Let the newest count as kept after ``step``, on the first process alone."""
        kept = self._all()
        if kept:
            link_atomically(kept[-1], self._of(step))

    def prune(self) -> None:
        """Drop what no checkpoint refers to any more, on the first process alone."""
        kept = self._all()
        steps = [step_of(path) for path in checkpoints(self._folder)]
        wanted = {max((path for path in kept if step_of(path) <= step), key=step_of, default=None) for step in steps}
        for path in kept[:-1]:
            if path not in wanted:
                path.unlink()

    def _of(self, step: int) -> Path:
        return self._folder / f"best-{step:08d}.safetensors"

    def _all(self) -> list[Path]:
        """Oldest first."""
        return sorted(self._folder.glob("best-*.safetensors"), key=step_of)
