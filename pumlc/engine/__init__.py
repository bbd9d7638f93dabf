"""The only layer that knows ranks, time and disk."""

from __future__ import annotations


class DivergedError(RuntimeError):
    """Training produced numbers that are not finite; the message says where, and what to go back to."""
