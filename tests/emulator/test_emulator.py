"""The emulator itself: what it must catch, what it must let pass, and what warps and blocks compute."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch

from tests.native.library import Native

FAULTS = {
    "race": r"race: writes byte 4 of shared memory `values` .* at planted_kernel.cu:\d+; "
    r"another thread of the block read it at planted_kernel.cu:\d+ with no barrier between them",
    "write_after_read": r"race: reads byte 0 of shared memory `value` .*; thread 0 of the block wrote it",
    "warp_race": r"race: writes byte 4 of shared memory `values` .*; another thread of the block read it",
    "global_race": r"race: writes byte 4 of global memory",
    "blocks_race": r"race: writes byte \d+ of global memory .*another block wrote it",
    "global_bounds": r"out of bounds: writes 4 bytes at planted_kernel.cu:\d+, 0 bytes after the end of global",
    "misaligned": r"misaligned: writes byte 2 of global memory .* no multiple of 4 bytes",
    "dynamic_bounds": r"out of bounds: writes 4 bytes at planted_kernel.cu:\d+, 0 bytes after the end of dynamic ",
    "uninitialised": r"reads byte 12 of shared memory `values` .*which nothing has written",
    "other_block": r"block \(1, 0, 0\), thread \(0, 0, 0\): reads byte 0 of .*which nothing has written",
    "barrier": r"not all threads reach __syncthreads at planted_kernel.cu:\d+: thread \(0, 0, 0\) waits there, "
    r"thread \(40, 0, 0\) waits in __syncthreads at planted_kernel.cu:\d+",
    "lane": r"__shfl_xor_sync at planted_kernel.cu:\d+: mask 0xffffffff of thread \(0, 0, 0\) names lane 7, "
    "which has returned",
    "source": r"__shfl_sync at planted_kernel.cu:\d+: lane 0 reads from lane 20, which mask 0x0000ffff does not name",
}
CLEAN = [*FAULTS, "static_bounds", "atomic"]


@pytest.fixture
def launch(emulated: Native):
    """Launches one of planted_kernel.cu's kernels, (name, address of out [128], faulty); returns what went wrong."""
    function = emulated.functions.pumlc_emulator_run_planted
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
    return lambda name, address, faulty=False: function(name.encode(), address, faulty).decode()


@pytest.fixture
def run_planted(emulated: Native, launch):
    def run(name: str, *, faulty: bool, order: int = 0) -> tuple[str, torch.Tensor]:
        """What the emulator says of a kernel, and its out [128]."""
        with emulated.installed(order=order):
            out = torch.zeros(128)
            return launch(name, out.data_ptr(), faulty), out

    return run


@pytest.mark.parametrize(("name", "message"), FAULTS.items(), ids=FAULTS)
def test_fault_is_caught(name, message, run_planted):
    said, _ = run_planted(name, faulty=True)
    assert re.search(message, said), said


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught_in_any_order_of_threads(name, order, run_planted):
    assert run_planted(name, faulty=True, order=order)[0]


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", CLEAN)
def test_sound_kernel_passes(name, order, run_planted):
    assert run_planted(name, faulty=False, order=order)[0] == ""


@pytest.mark.parametrize("order", [0, 1])
def test_collectives(order, run_planted):
    message, out = run_planted("collectives", faulty=False, order=order)
    assert message == ""
    lane = torch.arange(32, dtype=torch.float32)
    above = (lane + 1).clamp(max=31)  # the last lane keeps its own
    below = torch.where(lane % 8 == 0, lane, lane - 1)  # the first of every eight keeps its own
    expected = 496 + 1000 * above + 100000 * below + 0.5
    assert torch.equal(out[:64], expected.repeat(2))


def test_memory_that_a_tensor_gave_back_is_not_to_be_touched(emulated: Native, launch):
    with emulated.installed():
        address = torch.zeros(128).data_ptr()
        assert "out of bounds" in launch("race", address)


def test_a_block_can_have_only_so_much_shared_memory(emulated: Native, launch):
    with emulated.installed(shared_memory=128):
        said = launch("race", torch.zeros(128).data_ptr())
    assert said == "256 bytes of dynamic shared memory, where this kernel may have 128"
