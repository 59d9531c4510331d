"""What an unsampled step costs: `python -m benchmarks.off_sample`.

A step that does nothing but call backward on a tiny graph and step an optimizer over one parameter, timed bare and
inside `unstuck.watch()` on steps that are not sampled, in turns (A B A B …); the median difference is the cost.
"""

import statistics
import time

import torch

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session

STEPS, ROUNDS = 2_000, 9


def steps(w: torch.Tensor, optimizer: torch.optim.Optimizer, n: int) -> float:
    """Make n steps and return seconds a step."""
    begun = time.perf_counter()
    for _ in range(n):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    return (time.perf_counter() - begun) / n


def main() -> None:
    """Print one markdown row."""
    torch.set_num_threads(1)
    w = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1e-6)
    bare, watched = [], []
    for _ in range(ROUNDS):
        bare.append(steps(w, optimizer, STEPS))
        with Session(Schedule(every=1_000_000)):
            steps(w, optimizer, 20)  # past the first, sampled ones
            watched.append(steps(w, optimizer, STEPS))
    a, b = statistics.median(bare) * 1e6, statistics.median(watched) * 1e6
    print("| bare step, µs | unsampled step, µs | added, µs |\n|---:|---:|---:|")
    print(f"| {a:.1f} | {b:.1f} | {b - a:.1f} |")


if __name__ == "__main__":
    main()
