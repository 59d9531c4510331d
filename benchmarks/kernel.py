"""The fused summary beside `x.sum()` and beside the usual torch calls: `python -m benchmarks.kernel [--threads N]`.

A tensor of (rows, 256) is summarised with its histogram: as a whole, and by unit with a responsive interval. The usual
calls give most of the latter: mean, std, min and max of each unit, how many elements are outside the interval or zero,
whether all are finite, and `torch.histc` of the whole. All are called in turn, round after round; the table has each
one's best time of all rounds, since whatever else runs on the machine can only add to it. A MB is 2^20 bytes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unstuck.stats import cpu

MEGABYTES = (0.03, 0.125, 0.5, 2, 8, 64)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
UNITS = 256
INTERVAL = (-2.0, 2.0)
SECONDS = 1.0  # for one row of the table
MIN_ROUNDS = 7


def usual_calls(x: Tensor) -> None:
    """Compute per-unit statistics and a histogram as one would with torch alone."""
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    torch.std_mean(x, 0)
    torch.aminmax(x, dim=0)
    ((x < INTERVAL[0]) | (x > INTERVAL[1])).sum(0)
    (x == 0).sum(0)
    torch.isfinite(x).all()
    torch.histc(x, 512)


def best_times(calls: list[Callable[[], object]]) -> list[float]:
    """Return each call's best time in seconds, of rounds that make all of them in turn."""
    best = [float("inf")] * len(calls)
    begun, rounds = time.perf_counter(), 0
    while rounds < MIN_ROUNDS or time.perf_counter() - begun < SECONDS:
        rounds += 1
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def row(megabytes: float, dtype: torch.dtype) -> str:
    """Measure one size and dtype."""
    rows = max(1, int(megabytes * 2**20) // (UNITS * dtype.itemsize))
    x = torch.randn(rows, UNITS).to(dtype)
    assert cpu.summarise(x).count == x.numel()
    total, whole, ours, usual = best_times(
        [
            x.sum,
            lambda: cpu.summarise(x),
            lambda: cpu.summarise(x, unit_dim=1, interval=INTERVAL),
            lambda: usual_calls(x),
        ]
    )
    times = " | ".join(f"{1e3 * t:.3f}" for t in (total, whole, ours, usual))
    name = str(dtype).removeprefix("torch.")
    return f"| {name} | {megabytes:g} | {times} | {whole / total:.1f} | {ours / total:.1f} | {ours / usual:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), torch {torch.__version__}, times in ms\n")
    print(
        "| dtype | MB | x.sum() | summary | with units and interval | usual calls "
        "| summary / sum | with units / sum | with units / usual |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for dtype in DTYPES:
        for megabytes in MEGABYTES:
            print(row(megabytes, dtype), flush=True)


if __name__ == "__main__":
    main()
