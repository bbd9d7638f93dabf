"""How many blocks of a kernel a multiprocessor can hold at a time, from what a block needs and what there is.

The limits are those of the CUDA C++ Programming Guide, "Compute Capabilities", table "Technical Specifications per
Compute Capability"; the rules of allocation are those of ``cuda_occupancy.h``, NVIDIA's own calculator, which comes
with the toolkit (a test compares the two).

Dynamic shared memory is not among the needs: its size depends on the input. What comes out is the bound that registers,
threads and static shared memory set; a kernel whose launch asks for much dynamic shared memory may stay below it.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP_SIZE = 32
REGISTERS_PER_PARTITION = 16 * 1024
PARTITIONS = 4
"""Of a multiprocessor; each has its own registers, 64 K together, and a warp stays in one of them."""
REGISTER_UNIT = 256
"""Registers are given to a warp in multiples of this."""
SHARED_MEMORY_UNIT = 128
"""Bytes; shared memory is given to a block in multiples of this."""
RESERVED_SHARED_MEMORY = 1024
"""Bytes that the system takes of every block's shared memory, from compute capability 8.0 on."""


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor holds at most."""

    warps: int
    blocks: int
    shared_memory: int
    """Bytes."""


KB = 1024
MULTIPROCESSORS = {
    "sm_80": Multiprocessor(warps=64, blocks=32, shared_memory=164 * KB),
    "sm_86": Multiprocessor(warps=48, blocks=16, shared_memory=100 * KB),
    "sm_89": Multiprocessor(warps=48, blocks=24, shared_memory=100 * KB),
    "sm_90": Multiprocessor(warps=64, blocks=32, shared_memory=228 * KB),
    "sm_100": Multiprocessor(warps=64, blocks=32, shared_memory=228 * KB),
}
"""The architectures that the kernels are compiled for."""


def resident_blocks(architecture: str, threads: int, registers: int, shared_memory: int) -> int:
    """Blocks that a multiprocessor holds at a time.

    Args:
        architecture: a key of MULTIPROCESSORS.
        threads: per block.
        registers: per thread.
        shared_memory: static, bytes per block.
    """
    limits = MULTIPROCESSORS[architecture]
    warps = -(-threads // WARP_SIZE)
    registers_of_warp = _round_up(registers * WARP_SIZE, REGISTER_UNIT)
    warps_by_registers = REGISTERS_PER_PARTITION // registers_of_warp * PARTITIONS
    return min(
        limits.blocks,
        limits.warps // warps,
        warps_by_registers // warps,
        limits.shared_memory // _round_up(shared_memory + RESERVED_SHARED_MEMORY, SHARED_MEMORY_UNIT),
    )


def occupancy(architecture: str, threads: int, blocks: int) -> float:
    """Warps of so many blocks of so many threads, in percent of those that a multiprocessor can hold."""
    return 100 * blocks * -(-threads // WARP_SIZE) / MULTIPROCESSORS[architecture].warps


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
