"""python -m bench.check_gpu: build, prove and measure the kernels on the GPU of this machine (make check-gpu).

Exit status: 0 where everything passed, 2 where there is no GPU, 1 where a step failed; later steps still run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
# small enough for a tool that slows a kernel a hundredfold, and with every width and path of the kernels among them
SANITIZED = "cuda and (exact or phases) and float32 and (one or primes or COCO or tall or column or blocks)"


def main() -> int:
    if not torch.cuda.is_available():
        print("check-gpu: this machine has no GPU that torch can use; nothing was checked.")
        return 2
    name = torch.cuda.get_device_name()
    major, minor = torch.cuda.get_device_capability()
    print(f"check-gpu: {name}, compute capability {major}.{minor}, torch {torch.__version__}")
    environment = os.environ | {
        "PUMLC_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": f"{major}.{minor}",
        "PYTHONPATH": str(ROOT),
    }
    outcomes = {"build": _run("build", ["setup.py", "--quiet", "build_ext", "--inplace"], environment)}
    if outcomes["build"] != "passed":
        return _report(outcomes)
    outcomes["tests"] = _run("tests", ["-m", "pytest", "-q"], environment)
    for tool in ("memcheck", "racecheck"):
        outcomes[tool] = _sanitize(tool, environment)
    outcomes["benchmarks"] = _run("benchmarks", ["-m", "bench", "--device", "cuda"], environment)
    return _report(outcomes)


def _run(title: str, arguments: list[str], environment: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    print(f"\n== {title}", flush=True)
    start = time.perf_counter()
    status = subprocess.run([*prefix, sys.executable, *arguments], cwd=ROOT, env=environment).returncode
    print(f"== {title}: status {status}, {time.perf_counter() - start:.0f} s", flush=True)
    return "passed" if status == 0 else f"failed (status {status})"


def _sanitize(tool: str, environment: dict[str, str]) -> str:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=f"{home}/bin")
    if sanitizer is None:
        print(f"\n== {tool}: compute-sanitizer is neither on the PATH nor in {home}/bin; skipped")
        return "skipped: no compute-sanitizer"
    # torch's caching allocator hands out parts of large blocks, in which a write out of bounds is not seen
    environment = environment | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return _run(
        tool,
        ["-m", "pytest", "-q", "-x", "tests/ops/test_pu_loss.py", "-k", SANITIZED],
        environment,
        (sanitizer, "--tool", tool, "--error-exitcode", "1", "--print-limit", "20"),
    )


def _report(outcomes: dict[str, str]) -> int:
    print("\ncheck-gpu:")
    for step, outcome in outcomes.items():
        print(f"  {step:<12} {outcome}")
    return int(any(outcome.startswith("failed") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
