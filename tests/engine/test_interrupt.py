"""Ctrl-C asks first and insists later."""

from __future__ import annotations

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
