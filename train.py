"""Train a multi-label classifier: ``python train.py [preset] --flags``; ``--help`` lists both.

Exit status: 0 for a finished run, 130 for one that was stopped and can be resumed, 2 for bad input, 1 otherwise.
"""

from __future__ import annotations

import os
import sys

from pumlc.errors import InputError, MissingPackageError


def main() -> int:
    rank = f"[process {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    try:
        from pumlc.engine import DivergedError
        from pumlc.engine.command_line import parse
        from pumlc.engine.trainer import fit

        try:
            return fit(parse(sys.argv[1:]))
        except DivergedError as error:
            print(f"{rank}error: {error}", file=sys.stderr)
            return 1
    except (InputError, MissingPackageError) as error:
        print(f"{rank}error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
