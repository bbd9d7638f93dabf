"""The CUDA compiler of the kernels: where it is, and the flags that its machine code depends on.

For setup.py, which builds with it, and bench/resources.py, which reports on what it makes.
"""

import os
import re
import shutil
import site
import subprocess
import sysconfig
from pathlib import Path

import torch

NVCC_FLAGS = ["-std=c++20", "-O3", "-lineinfo", "-Xcompiler=-Wall,-Wextra"]


class CudaToolkitError(Exception):
    """No CUDA compiler that goes with this torch; the message says where one was looked for."""


def find_cuda_home() -> Path:
    """The CUDA toolkit of torch's major version: CUDA_HOME, then the PATH, then the nvidia-cuda-nvcc wheel."""
    if not torch.version.cuda:
        raise CudaToolkitError(
            f"torch {torch.__version__} is built without CUDA. Install a torch that is built with it."
        )
    seen = []
    for home in _candidates():
        if (home / "bin" / "nvcc").exists():
            version = nvcc_version(home)
            if version.split(".")[0] == torch.version.cuda.split(".")[0]:
                return home.resolve()
            seen.append(f"{home} (CUDA {version or 'of an unknown version'})")
    raise CudaToolkitError(
        f"torch {torch.__version__} needs nvcc of CUDA {torch.version.cuda}; CUDA_HOME, the PATH and site-packages "
        f"have {', '.join(seen) or 'none'}. Install it with `make install`, or set CUDA_HOME."
    )


def nvcc_version(home: Path) -> str:
    """The version of a toolkit's compiler, such as 13.0.88; empty where it does not tell."""
    output = subprocess.run([home / "bin" / "nvcc", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release [\d.]+, V([\d.]+)", output)
    return found[1] if found else ""


def _candidates() -> list[Path]:
    """Folders that may hold a toolkit, the preferred ones first."""
    candidates = [Path(os.environ["CUDA_HOME"])] if os.environ.get("CUDA_HOME") else []
    if nvcc := shutil.which("nvcc"):
        # nvcc on the PATH may be a wrapper or a link: it says itself where its toolkit is
        dry_run = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr
        candidates += [Path(top) for top in re.findall(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE)]
    packages = [sysconfig.get_path("purelib"), str(Path(torch.__file__).parents[1]), *site.getsitepackages()]
    return candidates + [Path(folder, "nvidia", f"cu{torch.version.cuda.split('.')[0]}") for folder in packages]
