"""python -m bench.check_gpu: build, prove and measure the kernels on the GPU of this machine (make check-gpu).

Exit status: 0 where everything passed or was skipped with a reason, 2 where there is no GPU, 1 where a step failed;
later steps still run. A bar that is missed stands in the last table and fails nothing: it says how fast, not how right.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from bench import bars, steps
from bench.steps import Outcome, Step
from bench.timing import append_rows, device_name, results_path

ROOT = Path(__file__).parents[1]

# small enough for a tool that slows a kernel a hundredfold, and with every width and path of the kernels among them
_CASES = "cuda and (float32 and (one or primes or COCO or tall or column or padded or blocks) or bfloat16 and primes)"
# without the long ones: there the kernels of torch are watched too
_SHORT = "cuda and (float32 and (one or primes or COCO or padded or blocks) or bfloat16 and primes)"
_RESULTS = ("tests/ops/test_pu_loss.py", f"(exact or phases) and {_CASES}")
SANITIZED = {
    "memcheck": _RESULTS,
    "racecheck": _RESULTS,
    # there fresh memory is filled with NaN, which initcheck would take for written: here it is left as it is
    "initcheck": ("tests/gpu/test_same_bits.py", _SHORT),
}
"""Test file and cases for each tool of compute-sanitizer."""
SANITIZER_SECONDS = {"memcheck": 30, "racecheck": 30, "initcheck": 40}
SANITIZER_EXCUSES = ("Device not supported", "device is not supported")
# torch's allocator hands out parts of large blocks: a write past the end of a tensor, or a read of an element that
# nothing wrote, is not seen in them
SANITIZER_ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}

NCU_EXCUSES = ("ERR_NVGPUCTRPERM", "Failed to initialize the profiler")
NCU_METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
)
PROFILED = """
import torch
from bench.pu_loss import OPERATOR, make_inputs
from pumlc.ops import pu_loss
logits, labels = make_inputs(OPERATOR.shapes[-1], torch.bfloat16, "cuda")
for _ in range(3):
    pu_loss(logits, labels)
torch.cuda.synchronize()
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.check_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies every step's time, for slower machines")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("check-gpu: this machine has no GPU that torch can use; nothing was checked.")
        return 2
    device = torch.device("cuda")
    capability = "{}.{}".format(*torch.cuda.get_device_capability())
    environment = os.environ | {
        "PUMLC_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": capability,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }

    wanted = all_steps(environment)
    limit = options.patience * sum(step.seconds for step in wanted)
    machine = f"{device_name(device)}, compute capability {capability}, torch {torch.__version__}"
    print(f"check-gpu: {machine}; at most {limit:.0f} s", flush=True)
    path = results_path(device)
    known = len(bars.read_rows(path)) if path.exists() else 0
    outcomes: list[Outcome] = []
    for step in wanted:
        outcomes.append(steps.run_step(step, ROOT, options.patience))
        if step.name == "build" and outcomes[-1].verdict == "failed":
            break  # everything else would check an older build
    append_rows(path, device, [{"benchmark": "check_gpu", "steps": [dataclasses.asdict(it) for it in outcomes]}])
    print("\n" + report(outcomes, bars.newest(bars.read_rows(path)[known:]), device_name(device)))
    print(f"\nappended to {path}")
    return int(any(outcome.verdict == "failed" for outcome in outcomes))


def report(outcomes: list[Outcome], rows: list[dict], device: str) -> str:
    """What became of the steps, then the bars for this device beside the rows that this run measured."""
    machine = bars.machine_class(device)
    judged = bars.table(rows, bars.load(), [machine]) if machine else "no bars are set for this GPU"
    total = sum(outcome.seconds for outcome in outcomes)
    return f"check-gpu, {total:.0f} s:\n{steps.table(outcomes)}\n\nbars:\n{judged}"


def all_steps(environment: Mapping[str, str]) -> list[Step]:
    """Everything that is checked, in order; the seconds are for an H200."""

    def python(name: str, seconds: float, *arguments: str, needs: tuple[str, ...] = ()) -> Step:
        return Step(name, (sys.executable, *arguments), seconds, environment, missing=missing_package(needs))

    return [
        python("build", 70, "setup.py", "--quiet", "build_ext", "--inplace"),
        # the emulated GPU and the sanitizers of the CPU stand in for what is here
        python("tests", 120, "-m", "pytest", "-q", "--ignore=tests/gpu", "--ignore=tests/native", "-k", "not emulated"),
        python("same bits, graph, no waiting", 25, "-m", "pytest", "-q", "tests/gpu"),
        *(sanitizer_step(tool, environment) for tool in SANITIZER_SECONDS),
        python("ceilings", 10, "-m", "bench.ceilings", "--device", "cuda"),
        python("operators", 70, "-m", "bench", "--device", "cuda"),
        python("training step", 50, "-m", "bench.train_step", "--device", "cuda", needs=("timm",)),
        python(
            "input", 20, "-m", "bench.data", "--device", "cuda", "--turns", "3", needs=("nvidia.dali", "torchvision")
        ),
        ncu_step(environment),
    ]


def sanitizer_step(tool: str, environment: Mapping[str, str]) -> Step:
    """compute-sanitizer over the ugly cases of the operators."""
    sanitizer = find_tool("compute-sanitizer")
    tests, cases = SANITIZED[tool]
    # initcheck has to see the kernels of torch too: they write what ours read
    ours = () if tool == "initcheck" else ("--kernel-name", "kns=pumlc")
    command = (
        *(sanitizer or "compute-sanitizer", "--tool", tool, *ours, "--error-exitcode", "1", "--print-limit", "20"),
        *(sys.executable, "-m", "pytest", "-q", "-x", tests, "-k", cases),
    )
    return Step(
        tool,
        command,
        SANITIZER_SECONDS[tool],
        {**environment, **SANITIZER_ENVIRONMENT},
        missing=None if sanitizer else missing_tool("compute-sanitizer"),
        excuses=SANITIZER_EXCUSES,
    )


def ncu_step(environment: Mapping[str, str]) -> Step:
    """What the hardware counters say of one call of pu_loss at its largest shape; the clocks stay as they are."""
    ncu = find_tool("ncu")
    command = (
        *(ncu or "ncu", "--clock-control", "none", "--kernel-name-base", "mangled", "--kernel-name", "regex:pumlc"),
        *("--launch-skip", "2", "--launch-count", "1", "--metrics", ",".join(NCU_METRICS)),
        *(sys.executable, "-c", PROFILED),
    )
    return Step("counters", command, 15, environment, None if ncu else missing_tool("ncu"), NCU_EXCUSES)


def cuda_bin() -> str:
    """Where the tools of CUDA are that are not on the PATH."""
    return f"{os.environ.get('CUDA_HOME', '/usr/local/cuda')}/bin"


def find_tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=cuda_bin())


def missing_tool(name: str) -> str:
    return f"{name} is neither on the PATH nor in {cuda_bin()}"


def missing_package(modules: tuple[str, ...]) -> str | None:
    """Why a step that needs these modules cannot run; None where they are installed."""
    absent = [module for module in modules if not is_installed(module)]
    return f"not installed: {', '.join(absent)}" if absent else None


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module would be in
        return False


if __name__ == "__main__":
    sys.exit(main())
