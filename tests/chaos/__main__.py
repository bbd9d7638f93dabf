"""python -m tests.chaos: short runs of several processes under kill -9, and whether they end as if nothing had been."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.torment import Torment
from tests.pictures import write_pictures


class Run(NamedTuple):
    """Of what goes wrong first where something is forgotten."""

    processes: int
    flags: Sequence[str]


RUNS = {
    "pu-mlc with mixup": Run(2, ["--mixup", "1"]),
    "ll-cp": Run(2, ["--method", "ll-cp", "--delta-rel", "10", "--single-positive"]),
    "asl, three processes": Run(3, ["--method", "asl", "--train-all"]),
}
KILLS = ("all", "start", "write", "one", "write", "start")  # over and over; then comes a SIGTERM


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition(": ")[2])
    parser.add_argument("--kills", type=int, default=20, help="in all (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=30, help="of four steps with two processes, per run (default: %(default)s)"
    )
    parser.add_argument("--only", choices=RUNS, help="one of the runs, with all the kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args()

    runs = [options.only] if options.only else list(RUNS)
    is_good = True
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        write_pictures(data)
        for number, run in enumerate(runs):
            folder = Path(name) / str(number)
            folder.mkdir()
            processes, flags = RUNS[run]
            seed = options.seed + number
            torment = Torment(data, folder, epochs=options.epochs, processes=processes, seed=seed, flags=flags)
            share = options.kills // len(runs) + (number < options.kills % len(runs))
            outcome = torment.run([*itertools.islice(itertools.cycle(KILLS), share), "term"])
            is_good &= outcome.is_good
            print(f"{run}: {outcome.summary()}", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
