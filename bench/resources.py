"""python -m bench.resources [--check | --write]: what each CUDA kernel needs of each architecture. No GPU is needed.

Compiles csrc/cuda/*_kernel.cu with every warning an error, spills and local memory among them, and prints registers,
shared memory, stack, spills and theoretical occupancy (bench/occupancy.py says what that leaves out).

--check compares with bench/resources.json. A row is worse where spills, stack or static shared memory grow or the
occupancy falls; more registers at the same occupancy cost nothing and are only told. The numbers are those of one
version of nvcc: under another one, differences are told and nothing fails but the compiling. --write makes the table
anew.

Exit status: 0 where all is well, 1 where a file does not compile or a row is worse, missing or left over, 2 where there
is no compiler.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.occupancy import MULTIPROCESSORS
from bench.ptxas import Compilation, Resources, compile_all, known_architectures
from csrc.cuda_toolkit import CudaToolkitError, find_cuda_home, nvcc_version

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).parent / "resources.json"

Key = tuple[str, str, str]
"""Source file, kernel, architecture."""
Row = dict[str, float]
"""The numbers of one kernel on one architecture."""

WORSE_IF_MORE = ("shared", "stack", "spill_stores", "spill_loads")
FORMAT = "{:<42}{:<8}{:>8}{:>6}{:>10}{:>9}{:>16}{:>8}{:>11}"
HEAD = ("kernel", "arch", "threads", "regs", "shared B", "stack B", "spills B st/ld", "blocks", "occupancy")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.resources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="compare with bench/resources.json")
    action.add_argument("--write", action="store_true", help="write bench/resources.json")
    arguments = parser.parse_args()
    try:
        cuda_home = find_cuda_home()
    except CudaToolkitError as error:
        return _give_up(str(error))
    if shutil.which("c++filt") is None:
        return _give_up("c++filt is not on the PATH. It comes with g++, in the package binutils.")
    version = nvcc_version(cuda_home)
    compilations = compile_kernels(cuda_home, version)
    rows = rows_of(compilations)
    print_table(rows)
    failed = [compilation for compilation in compilations if compilation.errors]
    for compilation in failed:
        print(f"\nresources: {compilation.source} for {compilation.architecture}:", *compilation.errors, sep="\n")
    good = not failed
    if arguments.check:
        good &= check(version, rows, {(compilation.source, compilation.architecture) for compilation in failed})
    if failed:
        unwritten = f"; {TABLE.relative_to(ROOT)} is left as it was" if arguments.write else ""
        print(f"\nresources: errors in {len(failed)} of {len(compilations)} compilations, see above{unwritten}")
    elif arguments.write:
        TABLE.write_text(to_json(version, rows))
        print(f"\nresources: {TABLE.relative_to(ROOT)} written, {len(rows)} rows")
    return int(not good)


def _give_up(reason: str) -> int:
    print(f"resources: {reason} Nothing was compiled.", file=sys.stderr)
    return 2


def compile_kernels(cuda_home: Path, version: str) -> list[Compilation]:
    """Compiles the kernel files of csrc/cuda for all architectures that this nvcc knows, and says which."""
    known = known_architectures(cuda_home)
    print(f"# nvcc {version}; threads of __launch_bounds__; blocks and occupancy without dynamic shared memory")
    for unknown in [architecture for architecture in MULTIPROCESSORS if architecture not in known]:
        print(f"# nvcc {version} does not compile for {unknown}: left out")
    start = time.perf_counter()
    sources = sorted((ROOT / "csrc" / "cuda").glob("*_kernel.cu"))
    compilations = compile_all(cuda_home, sources, [name for name in MULTIPROCESSORS if name in known])
    print(f"# {len(compilations)} compilations, {time.perf_counter() - start:.0f} s")
    return compilations


def rows_of(compilations: list[Compilation]) -> dict[Key, Row]:
    """One row per kernel and architecture, those of a kernel one below the other."""
    order = list(MULTIPROCESSORS)
    kernels = [kernel for compilation in compilations for kernel in compilation.kernels]
    kernels.sort(key=lambda kernel: (kernel.source, kernel.kernel, order.index(kernel.architecture)))
    return {(kernel.source, kernel.kernel, kernel.architecture): _numbers(kernel) for kernel in kernels}


def _numbers(kernel: Resources) -> Row:
    numbers = {name: value for name, value in asdict(kernel).items() if isinstance(value, int)}
    return numbers | {"blocks": kernel.blocks, "occupancy": round(kernel.occupancy, 1)}


def print_table(rows: dict[Key, Row]) -> None:
    last_source = last_kernel = None
    for (source, kernel, architecture), row in rows.items():
        if source != last_source:
            print(f"\n{source}\n{FORMAT.format(*HEAD)}")
        name = kernel if (source, kernel) != (last_source, last_kernel) else ""
        numbers = [row[name] for name in ("threads", "registers", "shared", "stack")]
        spills = f"{row['spill_stores']}/{row['spill_loads']}"
        print(FORMAT.format(name, architecture, *numbers, spills, row["blocks"], f"{row['occupancy']:.1f}%"))
        last_source, last_kernel = source, kernel


def to_json(version: str, rows: dict[Key, Row]) -> str:
    """The text of bench/resources.json: a line per row, so that a change is one line of a diff."""
    names = ("source", "kernel", "architecture")
    lines = [json.dumps(dict(zip(names, key, strict=True)) | row) for key, row in rows.items()]
    return f'{{\n"nvcc": {json.dumps(version)},\n"rows": [\n' + ",\n".join(lines) + "\n]\n}\n"


def from_json(text: str) -> tuple[str, dict[Key, Row]]:
    """The version of nvcc and the rows of bench/resources.json."""
    table = json.loads(text)
    rows = {(row.pop("source"), row.pop("kernel"), row.pop("architecture")): row for row in table["rows"]}
    return table["nvcc"], rows


def compare(recorded: dict[Key, Row], found: dict[Key, Row]) -> tuple[list[str], list[str]]:
    """What got worse, is missing from the table or left over in it, and the other differences; a line per row."""
    worse, notes = [], []
    for key in recorded.keys() | found.keys():
        source, kernel, architecture = key
        name = f"{source}: {kernel} on {architecture}"
        if key not in recorded:
            worse.append(f"{name}: not in the table")
        elif key not in found:
            worse.append(f"{name}: in the table, but no such kernel is compiled")
        elif recorded[key] != found[key]:
            before, after = recorded[key], found[key]
            changes = ", ".join(f"{n} {before[n]} -> {after[n]}" for n in after if before[n] != after[n])
            (worse if is_worse(before, after) else notes).append(f"{name}: {changes}")
    return sorted(worse), sorted(notes)


def is_worse(before: Row, after: Row) -> bool:
    return after["occupancy"] < before["occupancy"] or any(after[name] > before[name] for name in WORSE_IF_MORE)


def check(version: str, rows: dict[Key, Row], failed: set[tuple[str, str]]) -> bool:
    """Compares with the table and says what differs; false where that is a fault.

    Args:
        version: of the nvcc that made the rows.
        failed: source and architecture of what does not compile: rows that are missing for that are not counted.
    """
    if not TABLE.exists():
        print(f"\nresources: there is no {TABLE.relative_to(ROOT)}; python -m bench.resources --write makes it")
        return False
    recorded_version, recorded = from_json(TABLE.read_text())
    recorded = {key: row for key, row in recorded.items() if key in rows or (key[0], key[2]) not in failed}
    worse, notes = compare(recorded, rows)
    same_version = version == recorded_version
    if not same_version:
        print(f"\nresources: the table is of nvcc {recorded_version}, this is {version}: differences do not fail")
        worse, notes = [], sorted(worse + notes)
    for title, lines in (("worse than the table", worse), ("other differences from the table", notes)):
        if lines:
            print(f"\nresources: {title}:", *(f"  {line}" for line in lines), sep="\n")
    if same_version and (worse or notes):
        print("\nresources: where that is as it should be, python -m bench.resources --write makes it the table")
    elif same_version:
        print(f"\nresources: as in {TABLE.relative_to(ROOT)}")
    return not worse


if __name__ == "__main__":
    sys.exit(main())
