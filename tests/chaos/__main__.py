"""python -m tests.chaos: a short run of two processes under kill -9, and whether it ends as if nothing had been."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from tests.chaos.torment import Torment
from tests.pictures import write_pictures

RUNS = {  # flags of what goes wrong first where something is forgotten
    "pu-mlc with mixup": ["--mixup", "1"],
    "ll-cp": ["--method", "ll-cp", "--delta-rel", "10", "--single-positive"],
}
KILLS = ("all", "write", "one", "write", "all")  # over and over; then comes a SIGTERM


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition(": ")[2])
    parser.add_argument("--kills", type=int, default=20, help="in all (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="of four steps, per run (default: %(default)s)")
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
            torment = Torment(data, folder, epochs=options.epochs, seed=options.seed + number, flags=RUNS[run])
            share = options.kills // len(runs) + (number < options.kills % len(runs))
            outcome = torment.run([*itertools.islice(itertools.cycle(KILLS), share), "term"])
            is_good &= outcome.is_good
            print(f"{run}: {outcome.summary()}", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
