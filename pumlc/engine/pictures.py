"""The pictures of a run that cannot be used: known from the data folder, met on the way, told and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pumlc.data import Splits
from pumlc.data.quarantine import FILE, Quarantine, read_quarantine, read_record
from pumlc.engine.config import Config
from pumlc.engine.distributed import World
from pumlc.engine.log import NAME as LOG
from pumlc.engine.log import RunLog, read_events


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
        if not config.quarantine and (root / FILE).exists():
            known |= read_quarantine(root / FILE, root)
        if record is not None:
            known |= read_record(record, root)
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
        self._seen: dict[str, int] = dict.fromkeys(self.quarantines, 0)
        self._run = Path(config.out) if config.resume is not None and world.is_main else None
        self._logged: set[tuple[str, str]] | None = None  # split and file, once the log was looked at

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
            for row, reason in _after(quarantine, self._seen[split]).items():
                file = str(quarantine.paths[row])
                if (split, file) not in self._logged_before():
                    log.event("bad_picture", split=split, file=file, reason=reason)
        self._seen = self.counts()

    def _logged_before(self) -> set[tuple[str, str]]:
        """What the log of the run that goes on has named: it was cut to the checkpoint after this object was made."""
        if self._logged is None:
            has_log = self._run is not None and (self._run / LOG).exists()
            events = read_events(self._run) if has_log else ()
            self._logged = {(each["split"], each["file"]) for each in events if each["event"] == "bad_picture"}
        return self._logged

    def summary(self) -> str | None:
        """A line that counts them; None where all can be used."""
        found = [f"{count} of {split}" for split, count in self.counts().items() if count]
        return f"images that cannot be used: {', '.join(found)}; they were left out" if found else None


def _after(quarantine: Quarantine, count: int) -> dict[int, str]:
    """The entries that came after the first ``count``."""
    return dict(list(quarantine.reasons.items())[count:])
