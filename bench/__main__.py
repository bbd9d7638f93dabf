"""python -m bench [--device cpu|cuda] [--no-save]: every benchmark of the operators, one table."""

from __future__ import annotations

import argparse

import torch

from bench import (
    attention_pool,
    depthwise,
    elementwise_loss,
    gated_broadcast_add,
    large_loss,
    mixup_consistency,
    pu_loss,
    semantic_attention,
)
from bench.timing import Report, results_path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-save", action="store_true", help="print alone; do not append to bench/results/")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    report = Report(device, None if arguments.no_save else results_path(device))
    pu_loss.run(report)
    mixup_consistency.run(report)
    elementwise_loss.run(report)
    large_loss.run(report)
    attention_pool.run(report)
    gated_broadcast_add.run(report)
    semantic_attention.run(report)
    depthwise.run(report)  # last: on a CPU the process keeps its memory from here on
    if report.path is not None:
        print(f"# appended to {report.path}")


if __name__ == "__main__":
    main()
