"""Compiles kernel files with every warning an error, and reads what ptxas says of the resources of each kernel."""

from __future__ import annotations

import logging
import math
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.occupancy import occupancy, resident_blocks
from csrc.cuda_toolkit import NVCC_FLAGS

# all-warnings are those of all that nvcc calls: its front end, the host's compiler, ptxas
REVIEW_FLAGS = ["-Werror=all-warnings", "-Xptxas=--verbose,--warn-on-spills,--warn-on-local-memory-usage"]
COMPILES_AT_A_TIME = 2


@dataclass(frozen=True)
class Resources:
    """What a kernel needs on one architecture."""

    source: str
    kernel: str
    architecture: str
    threads: int
    """Per block, at most: those of its __launch_bounds__."""
    registers: int
    """Per thread."""
    shared: int
    """Static shared memory, bytes per block."""
    stack: int
    """Local memory, bytes per thread: spilled registers, and arrays with indices that the compiler does not know."""
    spill_stores: int
    """Bytes per thread."""
    spill_loads: int
    """Bytes per thread."""

    @property
    def blocks(self) -> int:
        """That a multiprocessor holds at a time, dynamic shared memory aside."""
        return resident_blocks(self.architecture, self.threads, self.registers, self.shared)

    @property
    def occupancy(self) -> float:
        """Percent of the warps that a multiprocessor can hold, dynamic shared memory aside."""
        return occupancy(self.architecture, self.threads, self.blocks)


@dataclass(frozen=True)
class Compilation:
    """One kernel file compiled for one architecture."""

    source: str
    architecture: str
    kernels: list[Resources]
    """What ptxas reports, also of a file that it then refuses."""
    errors: list[str]
    """Empty where there is nothing to object to."""


def compile_all(cuda_home: Path, sources: list[Path], architectures: list[str]) -> list[Compilation]:
    """Each file for each architecture."""
    flags = [*_torch_flags(), *NVCC_FLAGS, *REVIEW_FLAGS]
    jobs = [(source, architecture) for source in sources for architecture in architectures]
    with ThreadPoolExecutor(COMPILES_AT_A_TIME) as pool:
        return list(pool.map(lambda job: _compile(cuda_home, flags, *job), jobs))


def known_architectures(cuda_home: Path) -> set[str]:
    """What the compiler of a toolkit can compile for, such as sm_90."""
    run = subprocess.run([cuda_home / "bin" / "nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def parse_report(text: str) -> dict[str, dict[str, int]]:
    """The resources of each kernel, by its mangled name, in the output of ``ptxas --verbose``."""
    reports = {}
    _, *parts = re.split(r"Compiling entry function '(.+)' for 'sm_\w+'\n", text)
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        frame = re.search(
            rf"Function properties for {re.escape(name)}\n"
            r" *(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
            part,
        )
        used = re.search(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?", part)
        if frame and used:
            stack, spill_stores, spill_loads = map(int, frame.groups())
            reports[name] = {
                "registers": int(used[1]),
                "shared": int(used[2] or 0),
                "stack": stack,
                "spill_stores": spill_stores,
                "spill_loads": spill_loads,
            }
    return reports


def parse_launch_bounds(ptx: str) -> dict[str, int]:
    """The threads of a block that the __launch_bounds__ of each kernel allow, by its mangled name; 0 without any."""
    bounds = {}
    for name, head in re.findall(r"\.entry ([\w$]+)\((.*?)\{", ptx, re.DOTALL):
        dimensions = re.search(r"\.maxntid ([\d, ]+)", head)
        bounds[name] = math.prod(map(int, dimensions[1].split(","))) if dimensions else 0
    return bounds


def demangle(text: str) -> str:
    """C++ names as they are written in C++."""
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def short_name(signature: str) -> str:
    """A kernel's name and template arguments without namespaces, return type and parameters."""
    name = signature.replace("(anonymous namespace)::", "").removeprefix("void ")
    depth = 0
    for i, character in enumerate(name):
        depth += (character == "<") - (character == ">")
        if character == "(" and depth == 0:  # in <> it may be the type of a constant
            name = name[:i]
            break
    return re.sub(r"\w+::", "", name)


def _torch_flags() -> list[str]:
    """What torch adds to the flags of setup.py; its headers as those of the system, for they have warnings."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    from torch.utils.cpp_extension import COMMON_NVCC_FLAGS, include_paths

    return [*COMMON_NVCC_FLAGS, *(f"-isystem={path}" for path in include_paths())]


def _compile(cuda_home: Path, flags: list[str], source: Path, architecture: str) -> Compilation:
    with tempfile.TemporaryDirectory(prefix="pumlc-resources-") as folder:
        run = subprocess.run(
            [
                cuda_home / "bin" / "nvcc",
                *flags,
                f"-gencode=arch={architecture.replace('sm', 'compute')},code={architecture}",
                *("--keep", f"--keep-dir={folder}"),  # the PTX, which has the launch bounds
                *("-c", source, "-o", f"{folder}/{source.stem}.o"),  # with -cubin the host's part is not compiled
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ptx = Path(folder, f"{source.stem}.ptx")
        bounds = parse_launch_bounds(ptx.read_text()) if ptx.exists() else {}
    kernels, errors = [], []
    if run.returncode != 0:
        errors.append(_errors_in(run.stdout))
    reports = parse_report(run.stdout)
    for mangled, threads in bounds.items():
        kernel = short_name(demangle(mangled))
        if threads == 0:
            errors.append(f"{kernel} has no __launch_bounds__: its block size is not known to the compiler")
        elif mangled in reports:
            kernels.append(Resources(source.name, kernel, architecture, threads, **reports[mangled]))
        else:
            errors.append(f"{kernel}: no report of ptxas that can be read; it said:\n{run.stdout}")
    return Compilation(source.name, architecture, kernels, errors)


def _errors_in(output: str) -> str:
    """What nvcc and its tools say, without the report of ptxas and with the names of kernels in short."""
    lines = [line for line in output.splitlines() if not re.match(r"ptxas info| +\d+ bytes stack frame", line)]
    return re.sub(r"'(_Z\w+)'", lambda mangled: f"'{short_name(demangle(mangled[1]))}'", "\n".join(lines))
