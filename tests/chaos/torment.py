"""A run of several processes under kill -9 at random moments, and its twin that is left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pumlc.engine.checkpoint import checkpoints, damage
from pumlc.engine.log import read_events
from pumlc.nn.pretrained import read_tensors
from tests.chaos.processes import kill, kill_all, ranks_of, start, wait_until

SETTINGS = [
    "csv",
    "--backbone",
    "test_resnet",
    "--image-size",
    "32",
    "--batch-size",
    "3",
    "--log-every",
    "3",
    "--checkpoint-steps",
    "5",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--precision",
    "fp32",
]
PATIENCE = 120.0  # seconds for a start, or a few steps, on a busy machine


@dataclass
class Outcome:
    """What came of it."""

    steps: int  # of the run
    kills: int = 0
    of_one_process: int = 0  # of the kills; the others hit all processes at once
    within_a_write: int = 0  # of the kills
    repeated: int = 0  # log lines that a kill took back
    looked_at: int = 0  # checkpoints, after each kill
    unreadable: int = 0  # of them
    losses: int = 0  # that were compared
    differing: int = 0  # of them
    same_end: bool = False  # scores, what was best, and the weights that were kept
    seconds: float = 0.0

    def summary(self) -> str:
        return (
            f"{self.kills} kill -9 ({self.of_one_process} of one process, {self.within_a_write} while a checkpoint was "
            f"written) over {self.steps} steps: {self.differing} of {self.losses} losses differ, {self.unreadable} of "
            f"{self.looked_at} checkpoints unreadable, the end is {'the same' if self.same_end else 'ANOTHER ONE'}; "
            f"{self.repeated} log lines repeated; {self.seconds:.0f} s"
        )

    @property
    def is_good(self) -> bool:
        return self.same_end and self.differing == self.unreadable == 0 < self.losses


def torment(
    data: Path, folder: Path, *, kills: int, epochs: int, seed: int = 0, processes: int = 2, flags: Sequence[str] = ()
) -> Outcome:
    """Train twice, once killed ``kills`` times and started again by the same command, and compare.

    Every other kill waits for a checkpoint that is being written; every third hits one process alone, after which
    torchrun has to go on by itself.

    Args:
        data: the folder of a csv layout.
        folder: for the two run folders and the output.
    """
    began, draw = time.monotonic(), random.Random(seed)
    words = [*SETTINGS, "--data", data, "--epochs", epochs, *flags]
    calm, wild = folder / "calm", folder / "wild"
    twin = start([*words, "--out", calm], folder / "calm.txt", processes=processes)
    if twin.wait() != 0:
        raise RuntimeError((folder / "calm.txt").read_text()[-3000:])
    steps = read_events(calm)[0]["last_step"]
    outcome = Outcome(steps)
    words += ["--out", wild, "--resume", "auto"]
    job = None
    while outcome.kills < kills:
        alone = outcome.kills % 3 == 2 and processes > 1
        # twice the mean from kill to kill; what a kill takes back has to be walked again
        goal = last_step(wild) + draw.randint(0, 2 * (steps - last_step(wild)) // (kills - outcome.kills + 1))
        if job is None:
            job = start(words, folder / "wild.txt", processes=processes, max_restarts=kills)
        if not reach(job, wild, goal, processes):
            break
        if outcome.kills % 2 and wait_for_a_write(job, wild):
            outcome.within_a_write += 1
        else:
            time.sleep(draw.random() * 0.3)
        if job.poll() is not None:
            break
        if alone:
            kill(draw.choice(list(ranks_of(job).values())))
            outcome.of_one_process += 1
        else:
            kill_all(job)
            job = None
        outcome.kills += 1
        for path in checkpoints(wild / "checkpoints"):
            wrong = damage(path)
            if path.exists():  # else it was dropped by a run that goes on
                outcome.looked_at += 1
                outcome.unreadable += wrong is not None
    job = job or start(words, folder / "wild.txt", processes=processes, max_restarts=kills)
    if job.wait() != 0:
        raise RuntimeError((folder / "wild.txt").read_text()[-3000:])
    compare(calm, wild, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def compare(calm: Path, wild: Path, outcome: Outcome) -> None:
    """Count what differs; every number of the log but times is compared."""
    ours, theirs = numbers(wild), numbers(calm)
    outcome.losses = len(theirs)
    outcome.differing = sum(ours.get(key) != value for key, value in theirs.items()) + len(ours.keys() - theirs.keys())
    lost = wild / "log.lost.jsonl"
    outcome.repeated = len(lost.read_bytes().splitlines()) if lost.exists() else 0
    kept = [read_tensors(run / "best.safetensors") for run in (wild, calm)]
    ends = [read_events(run)[-1] for run in (wild, calm)]
    same = ("mAP", "mAP_last", "CF1", "OF1", "best_on_val", "step", "weights")
    outcome.same_end = [ends[0][key] for key in same] == [ends[1][key] for key in same] and all(
        torch.equal(tensor, kept[1][name]) for name, tensor in kept[0].items()
    )


def numbers(run: Path) -> dict[tuple, object]:
    """What each log line says that does not depend on the clock, by its name, step and what it is of."""
    timed = ("time", "seconds", "images_per_second", "data_wait")
    return {
        (event["event"], event["step"], event.get("split"), event.get("weights")): {
            key: value for key, value in event.items() if key not in timed
        }
        for event in read_events(run)
        if event["event"] in ("train", "eval", "method", "memorisation")
    }


def lines_of(run: Path) -> list[dict]:
    return read_events(run) if (run / "log.jsonl").exists() else []


def last_step(run: Path) -> int:
    return max((event["step"] for event in lines_of(run)), default=0)


def reach(job, run: Path, goal: int, processes: int) -> bool:
    """Wait until all processes run and the log has come to the step ``goal``; False where the run ended before."""
    began = len(lines_of(run))
    wait_until(
        lambda: job.poll() is not None or (len(lines_of(run)) != began and last_step(run) >= goal),
        PATIENCE,
    )
    return job.poll() is None


def wait_for_a_write(job, run: Path) -> bool:
    """Wait until a checkpoint is being written; False where the run ended before."""
    folder = run / "checkpoints"
    wait_until(lambda: job.poll() is not None or any(folder.glob(".step-*")), PATIENCE)
    return job.poll() is None
