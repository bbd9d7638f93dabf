"""Builds pumlc._C: the CPU kernels always, the CUDA kernels where a CUDA compiler is found.

PUMLC_CUDA=auto|0|1 (default auto) decides; TORCH_CUDA_ARCH_LIST names the GPU architectures.
"""

import os
import site
import sys
from glob import glob
from pathlib import Path

import torch
from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))  # pip runs this file without its folder on the path
from csrc.cuda_toolkit import NVCC_FLAGS, CudaToolkitError, find_cuda_home

ARCHITECTURES = "8.0 8.6 8.9 9.0+PTX"


def choose_cuda_home() -> Path | None:
    """The CUDA toolkit to build with, or None for the CPU kernels alone, as PUMLC_CUDA says."""
    mode = os.environ.get("PUMLC_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"PUMLC_CUDA: got {mode!r}, wanted auto, 0 or 1")
    try:
        return find_cuda_home() if mode != "0" else None
    except CudaToolkitError as error:
        if mode == "1":
            raise SystemExit(f"PUMLC_CUDA=1: {error}") from None
        return None


cuda_home = choose_cuda_home()
if cuda_home:
    os.environ["CUDA_HOME"] = str(cuda_home)  # cpp_extension reads it when it is imported
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension, include_paths  # noqa: E402

sources = glob("csrc/*.cpp") + glob("csrc/cpu/**/*.cpp", recursive=True)
macros = [("PUMLC_TORCH_VERSION", f'"{torch.__version__}"')]
cxx_flags = ["-O3", "-fopenmp", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"]
if "-g" not in os.environ.get("CFLAGS", ""):
    cxx_flags.append("-g0")  # setuptools asks for debug information, of which the kernels' templates make 80 MB
cxx_flags += [f"-isystem{path}" for path in include_paths()]  # no warnings from torch's headers
if cuda_home:
    sources += glob("csrc/cuda/*.cpp") + glob("csrc/cuda/*.cu")
    macros += [("PUMLC_CUDA_ARCHITECTURES", f'"{os.environ["TORCH_CUDA_ARCH_LIST"]}"')]
    extension = CUDAExtension("pumlc._C", sorted(sources), define_macros=macros)
    extension.extra_compile_args = {"cxx": cxx_flags, "nvcc": [*NVCC_FLAGS, "--threads=2"]}
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
