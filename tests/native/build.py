"""Builds the native code a second time for testing: CUDA kernels for the emulator, and everything under sanitizers.

Each variant is a library that `library.py` puts in the place of the installed CPU kernels. Ninja builds what changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "native"
CXX = os.environ.get("CXX", "g++")

VARIANTS = {
    "emulated": "the CUDA kernels on a CPU, each access checked (tests/emulator)",
    "emulated-asan": "the CUDA kernels on a CPU under AddressSanitizer and UndefinedBehaviorSanitizer",
    "cpu-asan": "the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer",
    "cpu-tsan": "the CPU kernels under ThreadSanitizer",
}

COMMON = ["-std=c++20", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
# g++ does not know `#pragma unroll`, nor that a constant is used there
EMULATOR = ["-Itests/emulator/include", "-Wno-unknown-pragmas", "-Wno-unused-variable"]
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
THREAD = ["-fsanitize=thread"]
# The calls that this sanitizer puts before every access go to tests/emulator/memory.cpp; of a static variable that is
# shared memory, the compiler must not conclude that only one thread sees it.
WATCHED = [*THREAD, "--param=tsan-instrument-func-entry-exit=0", "-fno-ipa-reference"]


@dataclass(frozen=True)
class Unit:
    """One source file and what it is compiled with."""

    source: Path
    flags: list[str]


def _units(variant: str) -> Iterable[Unit]:
    torch_headers = [f"-isystem{path}" for path in include_paths()]
    common = [*COMMON, *torch_headers]
    ops = ["-O1", "-Itests/native", "-include", "tests/native/registration.h"]
    yield Unit(ROOT / "tests/native/binding.cpp", [*common, "-O1", "-Itests/native"])
    if variant.startswith("emulated"):
        # in the ASan variant the runtime is not itself under the sanitizer: it plays with the memory of others
        checks, runtime = (WATCHED, []) if variant == "emulated" else (ADDRESS, ["-DPUMLC_EMULATOR_ASAN"])
        for source in [*(ROOT / "csrc/cuda").glob("*_kernel.cu"), ROOT / "tests/emulator/planted_kernel.cu"]:
            yield Unit(source, [*common, *EMULATOR, "-O1", *checks, "-x", "c++"])
        for source in (ROOT / "tests/emulator").glob("*.cpp"):
            yield Unit(source, [*common, *EMULATOR, "-O2", *runtime])
        for source in (ROOT / "csrc/cuda").glob("*.cpp"):
            yield Unit(source, [*common, *EMULATOR, *ops])
    else:
        checks = ADDRESS if variant == "cpu-asan" else [*THREAD, "-Itests/native/include"]
        yield Unit(ROOT / "tests/native/planted.cpp", [*common, "-O1", *checks])
        for source in (ROOT / "csrc/cpu").rglob("*.cpp"):
            is_op = "TORCH_LIBRARY_IMPL" in source.read_text()
            yield Unit(source, [*common, "-Wno-unknown-pragmas", "-O2", *checks, *(ops if is_op else [])])


def build(variant: str) -> Path:
    """The library of a variant, made anew where a source changed.

    Raises:
        RuntimeError: the compiler failed; the message is what it said.
    """
    assert variant in VARIANTS, f"variant: got {variant!r}, wanted one of {', '.join(VARIANTS)}"
    folder = BUILD / variant
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libpumlc_testing.so"
    sanitizer = {"emulated": []}.get(variant, THREAD if variant == "cpu-tsan" else ADDRESS[:1])
    torch_libraries = Path(torch.__file__).parent / "lib"
    link = [*sanitizer, f"-L{torch_libraries}", "-ltorch_cpu", "-lc10", "-ldl", "-lpthread", "-Wl,--no-undefined"]
    lines = [
        f"builddir = {folder}",
        "rule compile",
        f"  command = {CXX} $flags -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {CXX} -shared $in -o $out {' '.join(link)}",
    ]
    objects = []
    for unit in _units(variant):
        relative = unit.source.relative_to(ROOT)
        objects.append(folder / f"{str(relative).replace('/', '_')}.o")
        lines += [f"build {objects[-1]}: compile {relative}", f"  flags = {' '.join(unit.flags)}"]
    lines += [f"build {library}: link {' '.join(map(str, objects))}", ""]
    (folder / "build.ninja").write_text("\n".join(lines))
    command = ["ninja", "-f", str(folder / "build.ninja")]
    run = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"building {variant} ({VARIANTS[variant]}) failed:\n{run.stdout}{run.stderr}")
    return library


def _environment() -> dict[str, str]:
    """For the compiler: without a sanitizer that this process has, with the ninja that lies beside the interpreter."""
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return {**inherited, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _library(name: str) -> str:
    """Where the compiler finds a library."""
    command = [CXX, f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def sanitizer_environment(variant: str) -> dict[str, str]:
    """What a Python process needs to load a variant that is built with a sanitizer."""
    # with the C++ library, whose functions the sanitizer looks for when the process begins
    preload = [_library(name) for name in ("libtsan.so" if variant == "cpu-tsan" else "libasan.so", "libstdc++.so")]
    return {
        "PUMLC_TEST_NATIVE": variant,
        "LD_PRELOAD": " ".join(preload),
        # Python and torch keep what they allocate; a failure must end the process with a status of its own
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=66",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # torch and Python are not built with this sanitizer: what they do is not looked at
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:report_signal_unsafe=0:exitcode=66",
    }
