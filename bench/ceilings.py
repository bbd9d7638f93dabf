"""python -m bench.ceilings: what this machine can do at most, measured: bytes copied and bf16 products per second.

A data sheet's figures are rarely reached; a kernel's share of a ceiling means something beside the ceiling that was
measured on the same machine on the same day.
"""

from __future__ import annotations

import argparse

import torch

from bench.timing import append_rows, copy_bandwidth, results_path, time_graph, time_in_turn


def matmul_rate(device: torch.device, size: int) -> float:
    """Operations per second, two per multiply-add, of a product of two bf16 matrices of ``size`` x ``size``."""
    # random numbers: on zeros the product runs faster than any real one
    factors = [torch.randn(size, size, device=device).bfloat16() for _ in range(2)]
    if device.type == "cuda":
        timing = time_graph(torch.matmul, [tuple(factors)])
    else:
        timing = time_in_turn({"matmul": lambda: torch.matmul(*factors)})["matmul"]
    return 2 * size**3 / timing.median


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ceilings", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-save", action="store_true", help="print alone; do not append to bench/results/")
    parser.add_argument("--copy-bytes", type=int, default=1 << 29, help="size of the copy (default: %(default)s)")
    parser.add_argument("--matmul-size", type=int, default=8192, help="rows of the matrices (default: %(default)s)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    row = {
        "benchmark": "ceilings",
        "copy_gigabytes_per_second": copy_bandwidth(device, options.copy_bytes) / 1e9,
        "bf16_matmul_teraflops": matmul_rate(device, options.matmul_size) / 1e12,
    }
    print(
        f"copy: {row['copy_gigabytes_per_second']:.3g} GB/s, bytes read and written added; "
        f"bf16 product of {options.matmul_size} x {options.matmul_size}: {row['bf16_matmul_teraflops']:.3g} TFLOP/s"
    )
    if not options.no_save:
        append_rows(results_path(device), device, [row])


if __name__ == "__main__":
    main()
