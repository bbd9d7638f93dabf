"""What the process keeps of the memory that tensors give back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from pumlc.engine.host_memory import keep_freed_memory
kept = keep_freed_memory() if {keep} else None
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(30)  # the heap grows to what it needs
print(kept, faults(4))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc does this")
def test_pages_are_not_cleared_anew():
    def run(keep: bool) -> tuple[str, int]:
        program = PROGRAM.format(keep=keep)
        words = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        kept, faults = words.split()
        return kept, int(faults)

    kept, faults = run(True)
    assert kept == "True"
    assert faults < 100 < run(False)[1]  # 4 x 64 MB are 65,536 pages, or 128 huge ones


def test_another_library_is_said(monkeypatch):
    from pumlc.engine import host_memory

    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    assert host_memory.keep_freed_memory() is False
