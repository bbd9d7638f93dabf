"""The review by the compiler: what is read of its report, occupancy, the comparison with the table, what is refused."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import resources
from bench.occupancy import KB, MULTIPROCESSORS, occupancy, resident_blocks
from bench.ptxas import Resources, compile_all, demangle, parse_launch_bounds, parse_report, short_name
from csrc.cuda_toolkit import CudaToolkitError, find_cuda_home

NAMESPACE = "N5pumlc4cuda55_GLOBAL__N__38873297_17_pu_loss_kernel_cu_6b2d4c93_5931"
FUSED = f"_Z{NAMESPACE}12fused_kernelIN3c104HalfEfLi8EEEvNS_15PuLossArgumentsIT_T0_EEPj"
ADD = f"_Z{NAMESPACE}17add_splits_kernelIdEEvPKT_llPS3_"
# of nvcc 13.0: a kernel that spills, a function that is called by it, a kernel without shared memory
REPORT = f"""\
ptxas error   : Local memory used for function '{FUSED}', size of stack frame: 8 bytes
ptxas error   : Registers are spilled to local memory in function '{FUSED}', 12 bytes spill stores, 24 bytes spill loads
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{FUSED}' for 'sm_90'
ptxas info    : Function properties for {FUSED}
    8 bytes stack frame, 12 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 8 bytes cumulative stack size, 144 bytes smem
ptxas info    : Compile time = 212.651 ms
ptxas info    : Function properties for __internal_accurate_pow
    16 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function '{ADD}' for 'sm_90'
ptxas info    : Function properties for {ADD}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers, 384 bytes cmem[0]
ptxas info    : Compile time = 7.418 ms
"""


def test_report_of_ptxas():
    assert parse_report(REPORT) == {
        FUSED: {"registers": 80, "shared": 144, "stack": 8, "spill_stores": 12, "spill_loads": 24},
        ADD: {"registers": 30, "shared": 0, "stack": 0, "spill_stores": 0, "spill_loads": 0},
    }
    assert parse_report("nvcc fatal   : Unsupported gpu architecture 'compute_1'") == {}


def test_launch_bounds_of_ptx():
    ptx = """\
.visible .entry _Z4flatPf(
	.param .u64 .ptr .align 1 _Z4flatPf_param_0
)
.maxntid 256, 1, 1
.minnctapersm 3
{
	ret;
}
.visible .entry _Z5solidv()
.maxntid 8, 8, 4
{
	ret;
}
.visible .entry _Z4freev()
{
	ret;
}
"""
    assert parse_launch_bounds(ptx) == {"_Z4flatPf": 256, "_Z5solidv": 256, "_Z4freev": 0}


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        ("plain(float*)", "plain"),
        (
            "void pumlc::cuda::(anonymous namespace)::add<c10::Half, float, 8>(pumlc::A<c10::Half>)",
            "add<Half, float, 8>",
        ),
        ("void by<(pumlc::Mode)1, void (*)(int)>(int)", "by<(Mode)1, void (*)(int)>"),
    ],
)
def test_short_name(signature: str, name: str):
    assert short_name(signature) == name


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="no c++filt here")
def test_names_are_demangled():
    assert short_name(demangle(FUSED)) == "fused_kernel<Half, float, 8>"


@pytest.mark.parametrize(
    ("architecture", "threads", "registers", "shared", "blocks", "percent"),
    [
        # 80 x 32 = 2560 registers to a warp, 6 warps to each quarter of 16384: 24 warps, 3 blocks of 8
        ("sm_90", 256, 80, 144, 3, 37.5),
        ("sm_86", 256, 80, 144, 3, 50.0),
        # 81 becomes 88: 2816 to a warp, 5 to a quarter: 20 warps, 2 blocks of 8
        ("sm_90", 256, 81, 144, 2, 25.0),
        # 32 x 32 = 1024 to a warp, 16 to a quarter: all 64 warps; 48 is all that there are on sm_89
        ("sm_90", 256, 32, 0, 8, 100.0),
        ("sm_89", 256, 32, 0, 6, 100.0),
        # blocks of a warp: 32, 16 and 24 is the most
        ("sm_100", 32, 16, 0, 32, 50.0),
        ("sm_86", 32, 16, 0, 16, 100 / 3),
        ("sm_89", 32, 16, 0, 24, 50.0),
        # 40 KB and the 1 KB of the system: 4 of them in 164 KB, 2 in 100 KB, 5 in 228 KB
        ("sm_80", 128, 32, 40 * KB, 4, 25.0),
        ("sm_86", 128, 32, 40 * KB, 2, 100 / 6),
        ("sm_90", 128, 32, 40 * KB, 5, 31.25),
        # 33 threads take two warps
        ("sm_90", 33, 32, 0, 32, 100.0),
        # 255 become 256: 8192 to a warp, 2 to a quarter: no block of 16 warps
        ("sm_90", 512, 255, 0, 0, 0.0),
    ],
)
def test_occupancy(architecture: str, threads: int, registers: int, shared: int, blocks: int, percent: float):
    assert resident_blocks(architecture, threads, registers, shared) == blocks
    assert occupancy(architecture, threads, blocks) == pytest.approx(percent)


CALCULATOR = """\
#include <cstdio>
#include <cuda_occupancy.h>

// each line of the input: major, minor, warps and bytes of a multiprocessor; threads, registers, bytes of a block
int main() {
  cudaOccDeviceProp device;
  cudaOccFuncAttributes kernel;
  cudaOccDeviceState state;
  int warps, threads;
  while (std::scanf("%d %d %d %zu %d %d %zu", &device.computeMajor, &device.computeMinor, &warps,
                    &device.sharedMemPerMultiprocessor, &threads, &kernel.numRegs, &kernel.sharedSizeBytes) == 7) {
    device.numSms = 1;
    device.warpSize = 32;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = 32 * warps;
    device.regsPerBlock = device.regsPerMultiprocessor = 64 * 1024;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerBlockOptin = device.sharedMemPerMultiprocessor - 1024;
    device.reservedSharedMemPerBlock = 1024;
    kernel.maxThreadsPerBlock = 1024;
    kernel.numBlockBarriers = 1;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, 0) != CUDA_OCC_SUCCESS)
      return 1;
    std::printf("%d\\n", result.activeBlocksPerMultiprocessor);
  }
}
"""


def test_occupancy_is_that_of_nvidias_calculator(cuda_home: Path, tmp_path: Path):
    cases = list(itertools.product(MULTIPROCESSORS, (32, 96, 256, 1024), (16, 33, 80, 128), (0, 144, 6208, 47 * KB)))
    lines = []
    for architecture, *block in cases:
        limits = MULTIPROCESSORS[architecture]
        compute_capability = divmod(int(architecture.removeprefix("sm_")), 10)
        lines.append(" ".join(map(str, [*compute_capability, limits.warps, limits.shared_memory, *block])))
    (tmp_path / "calculator.cpp").write_text(CALCULATOR)
    build = ["g++", f"-isystem{cuda_home}/include", "calculator.cpp", "-o", "calculator"]
    subprocess.run(build, cwd=tmp_path, check=True)
    run = subprocess.run([tmp_path / "calculator"], input="\n".join(lines), capture_output=True, text=True, check=True)
    theirs = dict(zip(cases, map(int, run.stdout.split()), strict=True))
    assert {case: resident_blocks(*case) for case in cases} == theirs


ROW = {"threads": 256, "registers": 80, "shared": 144, "stack": 8, "spill_stores": 12, "spill_loads": 24} | {
    "blocks": 3,
    "occupancy": 37.5,
}
KEY = ("loss_kernel.cu", "loss<float>", "sm_90")


@pytest.mark.parametrize(
    "change",
    [
        {"spill_stores": 16},
        {"spill_loads": 28},
        {"stack": 16},
        {"shared": 160},
        {"registers": 81, "blocks": 2, "occupancy": 25.0},
        {"registers": 81, "blocks": 2, "occupancy": 25.0, "spill_stores": 0, "spill_loads": 0, "stack": 0},
    ],
)
def test_a_worse_row_is_named(change: dict):
    worse, notes = resources.compare({KEY: ROW}, {KEY: ROW | change})
    name, value = next(iter(change.items()))
    assert len(worse) == 1
    assert worse[0].startswith("loss_kernel.cu: loss<float> on sm_90: ")
    assert f"{name} {ROW[name]} -> {value}" in worse[0]
    assert notes == []


@pytest.mark.parametrize(
    "change", [{"registers": 79}, {"stack": 0, "spill_stores": 0, "spill_loads": 0}, {"blocks": 4, "occupancy": 50.0}]
)
def test_other_differences_are_notes(change: dict):
    worse, notes = resources.compare({KEY: ROW}, {KEY: ROW | change})
    assert worse == []
    assert len(notes) == 1
    assert "loss<float> on sm_90" in notes[0]


def test_rows_that_are_missing_or_left_over():
    other = ("loss_kernel.cu", "loss<double>", "sm_90")
    worse, notes = resources.compare({KEY: ROW}, {other: ROW})
    assert notes == []
    assert worse == [
        "loss_kernel.cu: loss<double> on sm_90: not in the table",
        "loss_kernel.cu: loss<float> on sm_90: in the table, but no such kernel is compiled",
    ]


@pytest.fixture
def table(monkeypatch, tmp_path: Path) -> Path:
    """A table of one row by nvcc 13.0.88."""
    path = tmp_path / "resources.json"
    path.write_text(resources.to_json("13.0.88", {KEY: ROW}))
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    monkeypatch.setattr(resources, "TABLE", path)
    return path


def test_check(table: Path, capsys):
    better, worse = {KEY: ROW | {"spill_stores": 0}}, {KEY: ROW | {"spill_stores": 16}}
    assert resources.from_json(table.read_text()) == ("13.0.88", {KEY: ROW})
    assert resources.check("13.0.88", {KEY: ROW}, set())
    assert "as in resources.json" in capsys.readouterr().out
    assert resources.check("13.0.88", better, set())
    assert "spill_stores 12 -> 0" in capsys.readouterr().out
    assert not resources.check("13.0.88", worse, set())
    assert "spill_stores 12 -> 16" in capsys.readouterr().out
    assert not resources.check("13.0.88", {}, set())
    # what does not compile is a fault by itself: the table asks for no row of it, but compares one that there is
    assert resources.check("13.0.88", {}, {("loss_kernel.cu", "sm_90")})
    assert not resources.check("13.0.88", worse, {("loss_kernel.cu", "sm_90")})
    table.unlink()
    assert not resources.check("13.0.88", {KEY: ROW}, set())
    assert "--write makes it" in capsys.readouterr().out


def test_with_another_nvcc_differences_do_not_fail(table: Path, capsys):
    assert resources.check("13.2.78", {KEY: ROW | {"spill_stores": 16}}, set())
    output = capsys.readouterr().out
    assert "the table is of nvcc 13.0.88, this is 13.2.78: differences do not fail" in output
    assert "spill_stores 12 -> 16" in output


def test_without_a_compiler(monkeypatch, capsys):
    def find() -> Path:
        raise CudaToolkitError("torch needs nvcc of CUDA 13.0; there is none.")

    monkeypatch.setattr(resources, "find_cuda_home", find)
    monkeypatch.setattr("sys.argv", ["resources", "--check"])
    assert resources.main() == 2
    assert capsys.readouterr().err == "resources: torch needs nvcc of CUDA 13.0; there is none. Nothing was compiled.\n"


@pytest.fixture(scope="module")
def cuda_home() -> Path:
    try:
        return find_cuda_home()
    except CudaToolkitError as error:
        pytest.skip(str(error))


GOOD = "__global__ void __launch_bounds__(256) good(float* x) { x[threadIdx.x] = 1.0f; }\n"
SPILLS = """\
// 64 numbers alive at a time, in 32 registers
__global__ void __launch_bounds__(1024, 2) spills(float* x) {
  float kept[64];
#pragma unroll
  for (int k = 0; k < 64; ++k) kept[k] = x[k * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < 64; ++k) x[threadIdx.x * 64 + k] = kept[k];
}
"""
INDEXES = """\
__global__ void __launch_bounds__(64) indexes(int* x) {
  int local[64];
  for (int k = 0; k < 64; ++k) local[x[k] & 63] = k;
  x[threadIdx.x] = local[x[threadIdx.x] & 63];
}
"""


def test_a_good_kernel(cuda_home: Path, tmp_path: Path):
    (tmp_path / "planted.cu").write_text(GOOD)
    (compilation,) = compile_all(cuda_home, [tmp_path / "planted.cu"], ["sm_90"])
    assert compilation.errors == []
    (kernel,) = compilation.kernels
    assert kernel == Resources("planted.cu", "good", "sm_90", 256, kernel.registers, 0, 0, 0, 0)
    assert 0 < kernel.registers <= 32
    assert kernel.occupancy == 100


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        (SPILLS, "Registers are spilled to local memory in function 'spills'"),
        (INDEXES, "Local memory used for function 'indexes'"),
        ("__global__ void __launch_bounds__(64) k() { int unused; }\n", 'variable "unused" was declared but never'),
        (
            "bool host(int a, unsigned b) { return a < b; }\n",
            "comparison of integer expressions of different signedness",
        ),
        ("__global__ void unbounded(int* x) { *x = 1; }\n", "unbounded has no __launch_bounds__"),
        ("this is not C++\n", "error"),
    ],
    ids=["spills", "local-memory", "nvcc-warning", "host-warning", "no-launch-bounds", "no-c++"],
)
def test_a_planted_fault_is_refused(cuda_home: Path, tmp_path: Path, planted: str, complaint: str):
    (tmp_path / "planted.cu").write_text(GOOD + planted)
    (compilation,) = compile_all(cuda_home, [tmp_path / "planted.cu"], ["sm_90"])
    text = "\n".join(compilation.errors)
    assert complaint in text
    assert "ptxas info" not in text
    assert "bytes stack frame," not in text


def test_the_row_of_a_kernel_that_spills_is_shown(cuda_home: Path, tmp_path: Path):
    (tmp_path / "planted.cu").write_text(SPILLS)
    (compilation,) = compile_all(cuda_home, [tmp_path / "planted.cu"], ["sm_80"])
    (kernel,) = compilation.kernels
    assert kernel.registers == 32
    assert min(kernel.spill_stores, kernel.spill_loads, kernel.stack) > 0
