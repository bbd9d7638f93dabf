"""python -m bench.roofline [--machine NAME | --bandwidth GB/s --tflops N]: the floors of the operators' times.

The bytes and operations of bench/counts.py over what a machine can do at most: no version of an operator runs faster
than the largest of the four times. The machines built in have their data sheets' peaks; a real copy moves less, so
give the bandwidth that bench.ceilings measured where a floor is to be compared with a time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench.counts import DTYPE_BYTES, OPERATORS, PASSES, Counts

SPECIAL_UNITS = 16
"""Exponentials, reciprocals or logarithms that a multiprocessor of compute capability 8.0 to 9.0 does per clock (CUDA
C++ Programming Guide, throughput of native arithmetic instructions)."""

LAUNCH_MICROSECONDS = 2.0
"""A kernel in a CUDA graph takes 2 to 3 microseconds, however little it does."""


@dataclass(frozen=True)
class Machine:
    name: str
    bandwidth: float
    """Bytes per second to and from memory, reads and writes added."""
    flops: float
    """fp32 operations per second outside the matrix units, two for a fused multiply-add."""
    lanes: int = 128
    """fp32 fused multiply-adds of a multiprocessor per clock (the table that SPECIAL_UNITS is from)."""

    @property
    def special_rate(self) -> float:
        """Special functions per second: the same multiprocessors and clock as ``flops``."""
        return self.flops / 2 / self.lanes * SPECIAL_UNITS


# NVIDIA's data sheets: H200 SXM, H100 SXM 80 GB, A100 SXM 80 GB; for the RTX 3090 the GA102 white paper.
MACHINES = {
    machine.name: machine
    for machine in (
        Machine("H200", 4.8e12, 67e12),
        Machine("H100", 3.35e12, 67e12),
        Machine("A100", 2.039e12, 19.5e12, lanes=64),
        Machine("RTX 3090", 0.936e12, 35.6e12),
    )
}


@dataclass(frozen=True)
class Floor:
    """The least seconds that each resource needs for a call."""

    memory: float
    fma: float
    special: float
    launch: float

    @property
    def seconds(self) -> float:
        return max(vars(self).values())

    @property
    def bound(self) -> str:
        """Name of the resource that needs longest."""
        return max(vars(self), key=vars(self).get)


def floor(counts: Counts, machine: Machine) -> Floor:
    return Floor(
        memory=counts.bytes / machine.bandwidth,
        fma=2 * counts.fmas / machine.flops,
        special=counts.specials / machine.special_rate,
        launch=counts.launches * LAUNCH_MICROSECONDS * 1e-6,
    )


_FORMAT = "{:<21}{:<14}{:<10}{:<18}{:>10}{:>9}{:>9}  |{:>9}{:>9}{:>9}{:>9}  |{:>9}  {}"


def table(machine: Machine) -> str:
    """A line per operator, shape, dtype and passes: what is counted, and the microseconds that it takes at least."""
    lines = [
        f"# {machine.name}: {machine.bandwidth / 1e9:.0f} GB/s, {machine.flops / 1e12:.1f} TFLOP/s fp32, "
        f"{machine.special_rate / 1e12:.2f} T special functions/s; microseconds right of the first bar",
        _FORMAT.format(
            *("op", "shape", "dtype", "passes", "MB", "M FMA", "M spec."),
            *("memory", "FMA", "special", "launch", "floor", "bound by"),
        ),
    ]
    for name, operator in OPERATORS.items():
        for shape in operator.shapes:
            for dtype, number_bytes in DTYPE_BYTES.items():
                for passes in PASSES:
                    counts = operator.count(shape, number_bytes, passes)
                    limit = floor(counts, machine)
                    amounts = (counts.bytes, counts.fmas, counts.specials)
                    times = (limit.memory, limit.fma, limit.special, limit.launch, limit.seconds)
                    lines.append(
                        _FORMAT.format(
                            *(name, str(shape), dtype, passes),
                            *(f"{amount / 1e6:.3f}" for amount in amounts),
                            *(f"{1e6 * seconds:.2f}" for seconds in times),
                            limit.bound,
                        )
                    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("--machine", choices=MACHINES, help="default: all of them")
    parser.add_argument("--bandwidth", type=float, metavar="GB/s", help="of another machine, reads and writes added")
    parser.add_argument("--tflops", type=float, help="its fp32 TFLOP/s, two operations for a fused multiply-add")
    parser.add_argument("--lanes", type=int, default=128, help="its fp32 units per multiprocessor (default: 128)")
    options = parser.parse_args(arguments)
    if (options.bandwidth is None) != (options.tflops is None):
        parser.error("--bandwidth and --tflops belong together")
    if options.bandwidth is not None:
        if options.machine is not None:
            parser.error("--machine has a bandwidth of its own")
        chosen = [Machine("this machine", 1e9 * options.bandwidth, 1e12 * options.tflops, options.lanes)]
    else:
        chosen = [MACHINES[options.machine]] if options.machine else MACHINES.values()
    print("\n\n".join(table(machine) for machine in chosen))


if __name__ == "__main__":
    main()
