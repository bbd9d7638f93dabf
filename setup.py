"""Builds pumlc._C: the CPU kernels always, the CUDA kernels where a CUDA compiler is found.

PUMLC_CUDA=auto|0|1 (default auto) decides; TORCH_CUDA_ARCH_LIST names the GPU architectures.
"""

import os
import re
import shutil
import site
import subprocess
import sysconfig
from glob import glob
from pathlib import Path

import torch
from setuptools import setup

ARCHITECTURES = "8.0 8.6 8.9 9.0+PTX"


def find_cuda_home() -> Path | None:
    """The CUDA toolkit of torch's major version: CUDA_HOME, then the PATH, then the nvidia-cuda-nvcc wheel."""
    mode = os.environ.get("PUMLC_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"PUMLC_CUDA: got {mode!r}, wanted auto, 0 or 1")
    seen = []
    if mode != "0" and torch.version.cuda:
        major = torch.version.cuda.split(".")[0]
        candidates = [Path(os.environ["CUDA_HOME"])] if os.environ.get("CUDA_HOME") else []
        if nvcc := shutil.which("nvcc"):
            # nvcc on the PATH may be a wrapper or a link: it says itself where its toolkit is
            dry_run = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr
            candidates += [Path(top) for top in re.findall(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE)]
        packages = [sysconfig.get_path("purelib"), str(Path(torch.__file__).parents[1]), *site.getsitepackages()]
        candidates += [Path(folder, "nvidia", f"cu{major}") for folder in packages]
        for home in candidates:
            if (home / "bin" / "nvcc").exists():
                version = subprocess.run([home / "bin" / "nvcc", "--version"], capture_output=True, text=True).stdout
                release = re.search(r"release (\d+)\.(\d+)", version)
                if release and release[1] == major:
                    return home.resolve()
                seen.append(f"{home} (CUDA {release[1]}.{release[2]})" if release else str(home))
    if mode == "1":
        raise SystemExit(
            f"PUMLC_CUDA=1: torch {torch.__version__} needs nvcc of CUDA {torch.version.cuda}; CUDA_HOME, the PATH and "
            f"site-packages have {', '.join(seen) or 'none'}. Install it with `make install`, or set CUDA_HOME."
        )
    return None


cuda_home = find_cuda_home()
if cuda_home:
    os.environ["CUDA_HOME"] = str(cuda_home)  # cpp_extension reads it when it is imported
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension, include_paths  # noqa: E402

sources = glob("csrc/*.cpp") + glob("csrc/cpu/**/*.cpp", recursive=True)
macros = [("PUMLC_TORCH_VERSION", f'"{torch.__version__}"')]
cxx_flags = ["-O3", "-fopenmp", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
cxx_flags += [f"-isystem{path}" for path in include_paths()]  # no warnings from torch's headers
if cuda_home:
    sources += glob("csrc/cuda/*.cpp") + glob("csrc/cuda/*.cu")
    macros += [("PUMLC_CUDA_ARCHITECTURES", f'"{os.environ["TORCH_CUDA_ARCH_LIST"]}"')]
    nvcc_flags = ["-O3", "-lineinfo", "--threads=2", "-Xcompiler=-Wall,-Wextra"]
    extension = CUDAExtension("pumlc._C", sorted(sources), define_macros=macros)
    extension.extra_compile_args = {"cxx": cxx_flags, "nvcc": nvcc_flags}
    # by its full name: the wheel of the CUDA runtime lacks the unversioned libcudart.so that -lcudart asks for
    folders = [
        cuda_home / "lib64",
        cuda_home / "lib",
        *(Path(p) / "nvidia" / cuda_home.name / "lib" for p in site.getsitepackages()),
    ]
    extension.libraries.remove("cudart")
    extension.extra_objects = [str(next(p for folder in folders for p in sorted(folder.glob("libcudart.so*"))))]
else:
    extension = CppExtension("pumlc._C", sorted(sources), define_macros=macros, extra_compile_args={"cxx": cxx_flags})
extension.extra_link_args += ["-fopenmp"]
print(f"pumlc: building with the CUDA toolkit in {cuda_home}" if cuda_home else "pumlc: building for the CPU alone")

setup(ext_modules=[extension], cmdclass={"build_ext": BuildExtension})
