"""Pictures that claim to be huge are refused before memory is asked for; the address space of a process tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.grim import MINUTES
from tests.data.odd_files import OUTSIDE, claiming
from tests.data.photos import write_photos

ROOM = 500  # MB that reading a small picture may take; 20000 x 14000 pixels have 840
CLAIMS = {"20000x14000": "280 megapixels", "65535x65535": "4295 megapixels"}

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, torch
from pumlc.data.augmentation import Augmentation
from pumlc.data.checking import examine
from pumlc.data.loader import EvaluationLoader, TrainLoader
from pumlc.data.quarantine import Quarantine

good, claims, path = json.loads(sys.argv[1])

def read(paths, training, limit=200):
    "The reasons by file, of a pass over the pictures."
    quarantine = Quarantine(paths, Path(good[0]).parent, "train", max_share=1.0)
    size = {"augmentation": Augmentation(image_size=32)} if training else {"image_size": 32}
    loader = (TrainLoader if training else EvaluationLoader)(
        paths, np.zeros((len(paths), 1), np.int8), batch_size=2, device=torch.device("cpu"), threads=1,
        quarantine=quarantine, max_megapixels=limit, **size,
    )
    assert len(list(loader.epoch(0) if training else loader)) == -(-len(paths) // 2)
    return {Path(paths[row]).stem: reason for row, reason in quarantine.reasons.items()}

ways = {"training": lambda p, *l: read(good + [p], True, *l), "evaluation": lambda p, *l: read(good + [p], False, *l)}
ways["check"] = lambda p, limit=200: {Path(p).stem: examine(p, limit)}
for way in ways.values():
    way(good[0])  # what is allocated once
def asked_for(name, before=0):
    "Megabytes of address space, now (VmSize) or at most so far (VmPeak)."
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name + ":"))
    return (int(line.split()[1]) >> 10) - before
before = asked_for("VmSize")
found = {claim: ways[path](claim) for claim in claims}
refused = asked_for("VmPeak", before)
ways[path](claims[0], 300)
print(json.dumps({"found": found, "refused": refused, "allowed": asked_for("VmPeak", before)}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs to know what memory the process holds")
@pytest.mark.parametrize("path", ["training", "evaluation", "check"])
def test_a_huge_claim_allocates_nothing(tmp_path, path):
    good = write_photos(tmp_path, 3)
    claims = [tmp_path / f"{size}.jpg" for size in CLAIMS]
    for claim in claims:
        claim.write_bytes(claiming(good[0].read_bytes(), *map(int, claim.stem.split("x"))))
    if (OUTSIDE / "giant-image.jpg").exists():  # has all the pixels
        claims.append(OUTSIDE / "giant-image.jpg")
    arguments = json.dumps([[str(each) for each in good], [str(each) for each in claims], path])
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, arguments],
        capture_output=True,
        text=True,
        timeout=MINUTES,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr[-3000:]
    said = json.loads(run.stdout.splitlines()[-1])
    for claim in claims:
        (reason,) = said["found"][str(claim)].values()
        assert reason.startswith("claims ")
        assert CLAIMS.get(claim.stem, "280 megapixels") in reason
    assert said["refused"] < ROOM
    assert said["allowed"] > 800  # to have been decoded before it was refused would have been seen
