"""The operators' tests once more, in processes whose kernels are built with a sanitizer."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.native.build import ROOT, sanitizer_environment

pytestmark = pytest.mark.slow

# Ugly cases of two dtypes: the others differ in no address. Left out: what is long, and what starts processes or an
# emulated GPU of its own.
UGLY = (
    "(exact or phases or finite or threads or scale or backward or tile) and not torch.float64 and not torch.float16 "
    "and not more-rows and not very-tall and not instruction_set and not any_order"
)

FAULTS = {
    # what AddressSanitizer is there for beyond the emulator's own checks: arrays in static shared memory
    ("emulated-asan", "static_bounds"): "AddressSanitizer: global-buffer-overflow .*",
    ("emulated-asan", "dynamic_bounds"): "AddressSanitizer: use-after-poison",
    ("emulated-asan", "global_bounds"): "AddressSanitizer: use-after-poison",
    ("cpu-asan", "pumlc_planted_overflow(8)"): "AddressSanitizer: heap-buffer-overflow",
    ("cpu-asan", "pumlc_planted_undefined(2)"): "planted.cpp:[0-9:]+ runtime error: signed integer overflow",
    ("cpu-tsan", "pumlc_planted_race(2)"): "ThreadSanitizer: data race .*planted.cpp",
}


def run(variant: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **sanitizer_environment(variant)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)


def report(done: subprocess.CompletedProcess) -> str:
    return f"status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[:6000]}"


@pytest.mark.parametrize("variant", ["cpu-asan", "cpu-tsan", "emulated-asan"])
def test_ugly_cases(variant):
    done = run(variant, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "tests/ops", "-k", UGLY)
    assert done.returncode == 0, report(done)
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 100, report(done)
    assert "Sanitizer" not in done.stderr.replace("ASan doesn't fully support makecontext", ""), report(done)


@pytest.mark.parametrize(("variant", "fault"), FAULTS, ids=str)
def test_planted_faults_are_found(variant, fault):
    if variant.startswith("emulated"):
        call = f"native.functions.pumlc_emulator_run_planted({fault.encode()!r}, ctypes.c_void_p(out.data_ptr()), 1)"
    else:
        call = f"native.functions.{fault}"
    program = (
        "import ctypes, torch\nfrom tests.native.library import Native\n"
        f"native = Native({variant!r})\nwith native.installed():\n    out = torch.zeros(128)\n    {call}\n"
    )
    done = run(variant, "-c", program)
    assert done.returncode != 0, report(done)
    assert re.search(FAULTS[variant, fault], done.stderr), report(done)


@pytest.mark.parametrize("variant", ["cpu-asan", "cpu-tsan"])
def test_what_is_sound_is_not_reported(variant):
    program = (
        "from tests.native.library import Native\nfunctions = Native(" + repr(variant) + ").functions\n"
        "functions.pumlc_planted_overflow(7), functions.pumlc_planted_undefined(1), functions.pumlc_planted_race(1)\n"
    )
    done = run(variant, "-c", program)
    assert done.returncode == 0, report(done)
