"""``python -m tests.fuzz [COUNT]``: mutated JPEG files through the loader; what came of them, and no crash.

Files are read in processes of their own: one that dies is counted, with the file that it was at, and the next goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.reading import read_all

SHARE = 500  # files per process
PATIENCE = 300  # seconds for a process: ten times what one needs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000, help="files (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (default: %(default)s)")
    parser.add_argument("--one-process", action="store_true", help="read the files here and print the counts as JSON")
    options = parser.parse_args()
    if options.one_process:
        with tempfile.TemporaryDirectory(prefix="pumlc-fuzz-") as folder:
            print(json.dumps(read_all(Path(folder), range(options.first, options.first + options.count))))
        return 0
    began, counts, crashes = time.monotonic(), Counter(), []
    for first in range(options.first, options.first + options.count, SHARE):
        count = min(SHARE, options.first + options.count - first)
        command = [sys.executable, "-m", "tests.fuzz", str(count), "--first", str(first), "--one-process"]
        seeds = f"seeds {first} to {first + count - 1}"
        try:
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            crashes.append(f"{seeds}: no end within {PATIENCE} seconds")
            continue
        if run.returncode:
            crashes.append(f"{seeds}: exit status {run.returncode}\n{run.stderr[-2000:]}")
        else:
            counts.update(json.loads(run.stdout.splitlines()[-1]))
        read = sum(counts.values()) - counts["set aside for a region alone"]
        print(f"{read} of {options.count} files: {dict(counts)}, {len(crashes)} crashes", flush=True)
    print(*crashes, sep="\n")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"{time.monotonic() - began:.0f} s, at most {peak} MB of memory in a process")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
