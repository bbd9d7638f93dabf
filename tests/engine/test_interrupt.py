"""Ctrl-C asks first and insists later."""

from __future__ import annotations

import itertools
import signal

import pytest

from pumlc.engine import interrupt


def test_first_signal_is_a_request(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with interrupt.StopRequest() as request:
        assert not request.received
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # torchrun repeats it at once
        assert request.received
        monkeypatch.setattr(interrupt, "IMPATIENCE", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_terminate_is_a_request_too():
    with interrupt.StopRequest() as request:
        signal.raise_signal(signal.SIGTERM)
        assert request.received


@pytest.mark.parametrize("seconds_per_step", [1e-4, 0.3, 2.0, 60.0])
def test_processes_ask_each_other_every_few_seconds(seconds_per_step):
    steps = [step for step in range(1, 200_001) if interrupt.is_time_to_agree(step, seconds_per_step)]
    longest = max(later - sooner for sooner, later in itertools.pairwise(steps))
    assert longest * seconds_per_step <= max(interrupt.AGREE_SECONDS, seconds_per_step)
    assert longest * seconds_per_step > interrupt.AGREE_SECONDS / 2  # and no more often than that


def test_before_anything_was_measured_they_ask_ever_more_rarely():
    assert [step for step in range(1, 70) if interrupt.is_time_to_agree(step, None)] == [1, 2, 4, 8, 16, 32, 64]
