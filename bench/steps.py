"""Steps of a long check: commands that run one after the other, each within its time, whatever became of the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 200  # of a step's output, in which signs of a tool that cannot work here are looked for


@dataclass(frozen=True)
class Step:
    """A command, and what its end means."""

    name: str
    command: Sequence[str]
    seconds: float
    """Its budget: it is ended when this is over."""
    environment: Mapping[str, str]
    missing: str | None = None
    """Why it cannot run here: it is skipped."""
    excuses: Sequence[str] = ()
    """Texts in the output of a tool that cannot work on this machine: a failure with one of them is a skip."""


@dataclass(frozen=True)
class Outcome:
    name: str
    verdict: str
    """passed, failed or skipped"""
    reason: str
    seconds: float
    budget: float


def run_step(step: Step, folder: Path, patience: float = 1.0) -> Outcome:
    """Run a step in ``folder`` with its output shown; ``patience`` multiplies the budget."""
    budget = step.seconds * patience
    print(f"\n== {step.name} (at most {budget:.0f} s)", flush=True)
    start = time.perf_counter()
    verdict, reason = ("skipped", step.missing) if step.missing else _run(step, folder, budget)
    outcome = Outcome(step.name, verdict, reason, time.perf_counter() - start, budget)
    print(f"== {describe(outcome)}, {outcome.seconds:.0f} s", flush=True)
    return outcome


def _run(step: Step, folder: Path, budget: float) -> tuple[str, str]:
    """Verdict and reason of a command."""
    process = subprocess.Popen(
        step.command,
        cwd=folder,
        env=dict(step.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # its own group: a tool is ended together with the program under it
    )
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(ProcessLookupError):  # it ended at this moment
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(budget, end)
    timer.start()
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last.append(line)
        status = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if over.is_set():
        return "failed", f"not done after its {budget:.0f} s"
    if status == 0:
        return "passed", ""
    excuse = next((text for text in step.excuses if any(text in line for line in last)), None)
    return ("skipped", excuse) if excuse else ("failed", f"status {status}")


def describe(outcome: Outcome) -> str:
    return f"{outcome.name}: {outcome.verdict}" + (f" ({outcome.reason})" if outcome.reason else "")


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per step: its time, its budget, its verdict and the reason."""
    width = max(len(outcome.name) for outcome in outcomes)
    return "\n".join(
        f"{outcome.name:<{width}}  {outcome.seconds:>4.0f} of {outcome.budget:>4.0f} s  "
        f"{outcome.verdict:<8} {outcome.reason}".rstrip()
        for outcome in outcomes
    )
