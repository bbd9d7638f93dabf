"""A run of several processes under kill -9 at random moments, and its twin that is left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pumlc.engine.checkpoint import checkpoints, damage
from pumlc.engine.log import read_events
from pumlc.engine.run_lock import FILE
from pumlc.nn.pretrained import read_tensors
from tests.chaos.processes import kill, ranks_of, start, wait_until, wait_until_gone

# Log lines, checkpoints and epochs of four steps end at different steps.
SETTINGS = (
    "--backbone test_resnet --image-size 32 --batch-size 3 --log-every 3 --checkpoint-steps 5 --threads 1 "
    "--device cpu --precision fp32"
)
KINDS = ("all", "start", "write", "one", "term")
NOTICE = 30.0  # seconds that a scheduler gives between SIGTERM and the end
PATIENCE = 120.0  # seconds for a start and a few steps, on a busy machine
TIMED = ("time", "seconds", "images_per_second", "data_wait")  # what a log line says of the clock


@dataclass
class Outcome:
    """What came of it."""

    steps: int = 0  # of the run
    kills: int = 0
    of_one_process: int = 0  # of the kills; the others hit all processes at once
    at_the_start: int = 0  # of the kills: before a log line said that the run goes on
    within_a_write: int = 0  # of the kills: a checkpoint was left half written
    terminations: int = 0  # by SIGTERM
    slowest_termination: float = 0.0  # seconds
    repeated: int = 0  # log lines that were taken back
    looked_at: int = 0  # checkpoints, after each kill
    unreadable: int = 0  # of them
    losses: int = 0  # that were compared
    differing: int = 0  # of them
    is_same_end: bool = False  # other log lines, what was best, and the weights that were kept
    seconds: float = 0.0

    def summary(self) -> str:
        return (
            f"{self.kills} kill -9 ({self.of_one_process} of one process, {self.at_the_start} before it went on, "
            f"{self.within_a_write} left a checkpoint half written) and {self.terminations} SIGTERM (at most "
            f"{self.slowest_termination:.1f} s) over {self.steps} "
            f"steps: {self.differing} of {self.losses} losses differ, {self.unreadable} of {self.looked_at} "
            "checkpoints unreadable, scores and weights at the end are "
            f"{'the same' if self.is_same_end else 'OTHERS'}; {self.repeated} log lines taken back; "
            f"{self.seconds:.0f} s"
        )

    @property
    def is_good(self) -> bool:
        nothing_lost = self.is_same_end and self.differing == self.unreadable == 0 < self.losses
        return nothing_lost and self.slowest_termination <= NOTICE


class Torment:
    """Trains twice, once killed and started again by the same command, over and over, and compares.

    Args:
        data: the folder of a csv layout.
        folder: for the two run folders and the output.
        epochs: of four steps, with two processes.
        flags: more words for train.py.
    """

    def __init__(
        self, data: Path, folder: Path, *, epochs: int, processes: int = 2, seed: int = 0, flags: Sequence[str] = ()
    ) -> None:
        self.folder, self.processes = folder, processes
        self.words = ["csv", *SETTINGS.split(), "--data", data, "--epochs", epochs, *flags]
        self.calm, self.wild = folder / "calm", folder / "wild"
        self.outcome = Outcome()
        self._draw = random.Random(seed)
        self._job: subprocess.Popen | None = None

    def run(self, kills: Sequence[str]) -> Outcome:
        """Do these things to it, each at a random moment, and compare.

        Args:
            kills: of KINDS. After "one", kill -9 of one process, torchrun has to go on by itself; after "all" of them,
                "write", the same while a checkpoint is written, "start", the same while it is just starting, and
                "term", SIGTERM, the command is given again.

        Raises:
            RuntimeError: a run ends that should not, or does not finish.
        """
        began = time.monotonic()
        self._finish(start([*self.words, "--out", self.calm], self._output(self.calm), processes=self.processes))
        self.outcome.steps = read_events(self.calm)[0]["last_step"]
        for number, kind in enumerate(kills):
            self._start(restarts=len(kills))
            if kind != "start":
                self._wait_for_a_step(len(kills) - number)
            if kind == "start":
                self._kill_at_the_start()
            elif kind == "term":
                self._terminate()
            elif kind == "one":
                self._kill_one()
            else:
                self._kill_all(within_a_write=kind == "write")
            self._look_at_checkpoints()
        self._start(restarts=len(kills))
        self._finish(self._job)
        self.compare()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    # What is done to it

    def _start(self, restarts: int) -> None:
        """Start it again by the same command, unless torchrun does."""
        if self._job is None:
            words = [*self.words, "--out", self.wild, "--resume", "auto"]
            self._job = start(words, self._output(self.wild), processes=self.processes, max_restarts=restarts)

    def _wait_for_a_step(self, left: int) -> None:
        """Until the run goes on, and has come to a random step; on the average one of ``left`` equal parts further."""
        lines, step = len(events_of(self.wild)), last_step(self.wild)
        goal = step + self._draw.randint(0, 2 * (self.outcome.steps - step) // (left + 1))
        self._wait(lambda: len(events_of(self.wild)) != lines and last_step(self.wild) >= goal)
        time.sleep(0.1 * self._draw.random())

    def _kill_all(self, within_a_write: bool) -> None:
        """As when the machine goes down."""
        half_written = self.wild / "checkpoints"
        if within_a_write:
            self._wait(lambda: any(half_written.glob(".step-*")))
            time.sleep(0.02 * self._draw.random())
        self._kill_job()
        self.outcome.within_a_write += any(half_written.glob(".step-*"))

    def _kill_at_the_start(self) -> None:
        """While it reads the data or the checkpoint, or takes its folder back to it."""
        lines = len(events_of(self.wild))
        lock = self.wild / FILE
        self._wait(lambda: lock.exists() and f"process {ranks_of(self._job).get(0)} on" in lock.read_text())
        time.sleep(2.0 * self._draw.random())
        self._kill_job()
        self.outcome.at_the_start += len(events_of(self.wild)) <= lines

    def _kill_job(self) -> None:
        pids = [self._job.pid, *ranks_of(self._job).values()]
        for pid in pids:
            kill(pid)
        self._job.wait()
        wait_until_gone(pids, PATIENCE)
        self._job = None
        self.outcome.kills += 1

    def _kill_one(self) -> None:
        kill(self._draw.choice(list(ranks_of(self._job).values())))
        self.outcome.kills += 1
        self.outcome.of_one_process += 1

    def _terminate(self) -> None:
        """As a scheduler does before it takes the machine away."""
        began = time.monotonic()
        self._job.send_signal(signal.SIGTERM)
        self._job.wait(PATIENCE)
        seconds = time.monotonic() - began
        self._job = None
        last = read_events(self.wild)[-1]
        if (last["event"], last.get("status")) != ("interrupted", 128 + signal.SIGTERM):
            raise RuntimeError(f"after SIGTERM the log ends with {last}\n{self._tail(self.wild)}")
        self.outcome.terminations += 1
        self.outcome.slowest_termination = max(self.outcome.slowest_termination, seconds)

    # What is looked at

    def _look_at_checkpoints(self) -> None:
        for path in checkpoints(self.wild / "checkpoints"):
            wrong = damage(path)
            if path.exists():  # else a run that goes on has dropped it
                self.outcome.looked_at += 1
                self.outcome.unreadable += wrong is not None

    def compare(self) -> None:
        """Every number of the log but those of the clock, and the weights."""
        (losses, others), (expected, wanted) = (numbers(read_events(run)) for run in (self.wild, self.calm))
        self.outcome.losses = len(expected)
        self.outcome.differing = sum(a != b for a, b in zip(losses, expected, strict=False))
        self.outcome.differing += abs(len(losses) - len(expected))
        lost = self.wild / "log.lost.jsonl"
        self.outcome.repeated = len(lost.read_bytes().splitlines()) if lost.exists() else 0
        kept, best = (read_tensors(run / "best.safetensors") for run in (self.wild, self.calm))
        same_weights = kept.keys() == best.keys() and all(torch.equal(kept[name], best[name]) for name in best)
        self.outcome.is_same_end = others == wanted and same_weights

    # Small things

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_until(lambda: self._job.poll() is not None or condition(), PATIENCE)
        if self._job.poll() is not None:
            raise RuntimeError(f"the run ended by itself\n{self._tail(self.wild)}")

    def _finish(self, job: subprocess.Popen) -> None:
        if job.wait() != 0:
            run = self.calm if job is not self._job else self.wild
            raise RuntimeError(f"exit status {job.returncode}\n{self._tail(run)}")

    def _output(self, run: Path) -> Path:
        return self.folder / f"{run.name}.txt"

    def _tail(self, run: Path) -> str:
        return self._output(run).read_text()[-3000:]


def events_of(run: Path) -> list[dict]:
    return read_events(run) if (run / "log.jsonl").exists() else []


def last_step(run: Path) -> int:
    return max((event["step"] for event in events_of(run)), default=0)


def numbers(events: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """The lines of losses, and the other lines that do not tell how often a run was begun, without times."""
    plain = [{key: value for key, value in event.items() if key not in TIMED} for event in events]
    other = ("eval", "method", "memorisation", "early_stop", "end")
    return [e for e in plain if e["event"] == "train"], [e for e in plain if e["event"] in other]
