"""The pictures of a run that cannot be used: known from the data folder, met on the way, told and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pumlc.data import Splits
from pumlc.data.quarantine import FILE, Quarantine, read_quarantine
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.log import RunLog


class Pictures:
    """A quarantine for each split, by name in ``quarantines``, the same on all processes after ``share``.

    Args:
        config: ``quarantine`` names the list that is read, besides that of the run folder of a run that goes on.
        splits: what is trained and evaluated on.
        say: prints a line on the first process.

    Raises:
        InputError: a list cannot be read, or has more images of a split than ``max_bad_share`` allows.
    """

    def __init__(self, config: Config, splits: Splits, world: World, say: Callable[[str], object]) -> None:
        root = Path(config.data) if Path(config.data).is_dir() else Path(config.data).parent
        record = None if config.out is None else Path(config.out) / FILE
        known = read_quarantine(Path(config.quarantine), root) if config.quarantine else {}
        for path in ([] if config.quarantine else [root / FILE]) + ([record] if record else []):
            known |= read_quarantine(path, root) if path.exists() else {}
        self.quarantines = {
            split.split: Quarantine(
                split.paths,
                root,
                split.split,
                known=known,
                max_share=config.max_bad_share,
                record=record if world.is_main else None,
                announce=lambda path, reason: say(f"left out from now on: {path} {reason}"),
            )
            for split in (splits.train, splits.val, splits.test)
            if split is not None
        }
        self._shared = self.counts()
        self._logged: dict[str, int] = dict.fromkeys(self.quarantines, 0)

    def counts(self) -> dict[str, int]:
        """Images that cannot be used, by split."""
        return {split: len(quarantine.reasons) for split, quarantine in self.quarantines.items()}

    def share(self, world: World, log: RunLog) -> None:
        """Tell all processes what each has met, and the log what is new to it.

        Raises:
            InputError: together there are too many; on all processes.
        """
        if world.size > 1:
            met = {split: _after(quarantine, self._shared[split]) for split, quarantine in self.quarantines.items()}
            for of_one in world.gather(met):
                for split, reasons in of_one.items():
                    self.quarantines[split].add(reasons)
            self._shared = self.counts()
        for split, quarantine in self.quarantines.items():
            for row, reason in _after(quarantine, self._logged[split]).items():
                log.event("bad_picture", split=split, file=str(quarantine.paths[row]), reason=reason)
        self._logged = self.counts()

    def summary(self) -> str | None:
        """A line that counts them; None where all can be used."""
        found = [f"{count} of {split}" for split, count in self.counts().items() if count]
        return f"images that cannot be used: {', '.join(found)}; they were left out" if found else None


def _after(quarantine: Quarantine, count: int) -> dict[int, str]:
    """The entries that came after the first ``count``."""
    return dict(list(quarantine.reasons.items())[count:])
