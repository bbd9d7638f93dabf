"""The only layer that knows ranks, time and disk."""

from __future__ import annotations


class LostProcessError(RuntimeError):
    """Another process of the run is gone or hangs; the message names it."""


class DivergedError(RuntimeError):
    """Training produced numbers that are not finite; the message says where, and what to go back to."""
