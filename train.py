"""Train a multi-label classifier: ``python train.py [preset] --flags``; ``--help`` lists both.

Exit status: 0 for a finished run, 130 (Ctrl-C) or 143 (SIGTERM) for one that was stopped and can be resumed, 2 for bad
input, 1 otherwise.
"""

from __future__ import annotations

import os
import sys

from pumlc.engine import DivergedError, LostProcessError
from pumlc.engine.command_line import notes, parse
from pumlc.errors import InputError, MissingPackageError


def main() -> int:
    try:
        words = sys.argv[1:]
        config = parse(words)
        from pumlc.engine.trainer import fit  # after the words are checked: it loads everything else

        return fit(config, notes(words))
    except (InputError, MissingPackageError, DivergedError, LostProcessError) as error:
        process = f"[process {os.environ['RANK']}] " if "RANK" in os.environ else ""
        print(f"{process}error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergedError | LostProcessError) else 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
