"""Imports run one way: _C -> ops -> nn -> methods -> engine -> train.py; data and metrics stand beside nn."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# what each part of the package may import from the package, itself apart
ALLOWED = {
    "errors": set(),
    "ops": {"errors", "_C"},
    "nn": {"errors", "ops"},
    "methods": {"errors", "ops", "nn"},
    "data": {"errors"},
    "metrics": {"errors"},
    "engine": {"errors", "ops", "nn", "methods", "data", "metrics", "__version__", "build_info"},
    "labels": {"errors", "engine"},
    "evaluate": {"errors", "nn", "engine"},
    "report": {"errors", "nn", "data", "metrics", "engine", "__version__"},
    "predict": {"errors", "ops", "nn", "methods", "data", "metrics", "engine"},
    "export": {"errors", "ops", "nn", "methods", "data", "engine", "predict", "__version__"},
    "__init__": {"ops"},
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "pumlc").parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of pumlc that a file names in import statements, at any depth."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" if node.module == "pumlc" else node.module for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("pumlc.")}
    return parts


FILES = sorted((ROOT / "pumlc").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back(path: Path):
    part = part_of(path)
    assert part in ALLOWED, f"{part} has no place in the layers: add it to ALLOWED"
    assert imported_parts(path) - {part} <= ALLOWED[part]


def test_kernels_do_not_know_torch():
    kernels = [
        *(ROOT / "csrc/cuda").glob("*.cu"),
        *(ROOT / "csrc/cuda").glob("*.cuh"),
        *(ROOT / "csrc/math").glob("*.h"),
    ]
    assert kernels
    for path in kernels:
        includes = [line for line in path.read_text().splitlines() if line.startswith("#include <")]
        assert not [line for line in includes if "torch/" in line or "ATen/" in line], path


OPTIONAL = ("timm", "nvidia", "pycocotools", "tyro", "tqdm", "safetensors", "PIL")


@pytest.mark.parametrize("module", ["pumlc", "pumlc.ops", "pumlc.nn", "pumlc.metrics.scores"])
def test_kernels_need_torch_alone(module: str):
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError("refused " + name, name=name)
import torch
sys.meta_path.insert(0, Refuse())
import {module}
assert not torch.cuda.is_initialized() and not torch.distributed.is_initialized()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
