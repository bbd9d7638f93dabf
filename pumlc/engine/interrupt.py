"""Ctrl-C and SIGTERM as a request that the training loop reads between steps."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

INTERRUPTED, TERMINATED = 130, 143  # exit statuses: 128 and the number of the signal, as shells have it
IMPATIENCE = 1.0  # seconds; torchrun repeats the terminal's signal at once, a person does not


AGREE_SECONDS = 5.0  # between two steps at which several GPUs ask each other whether to stop


def is_time_to_agree(step: int, seconds_per_step: float | None) -> bool:
    """Whether processes with a GPU each, which have to wait for it then, agree on stopping after this step.

    It is a function of what all of them know, or they would wait for each other in vain.

    Args:
        step: counted from 1.
        seconds_per_step: as it was measured lately; None where it was not yet.
    """
    if seconds_per_step is None:
        return step & (step - 1) == 0  # 1, 2, 4, 8, …
    return step % max(1, int(AGREE_SECONDS / max(seconds_per_step, 1e-9))) == 0


class StoppedError(Exception):
    """The run was asked to stop in the middle of something that can be begun again."""


class StopRequest:
    """Within the block, the first signal sets ``received``; a second Ctrl-C a moment later ends the program."""

    def __init__(self) -> None:
        self.received = False
        self.status = INTERRUPTED
        """The exit status that the first signal stands for."""
        self._since = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT and time.monotonic() - self._since > IMPATIENCE:
            raise KeyboardInterrupt
        if not self.received:
            self._since = time.monotonic()
            self.status = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        self.received = True
