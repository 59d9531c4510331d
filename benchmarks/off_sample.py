"""What an unsampled step costs: `python -m benchmarks.off_sample`.

The smallest step (backward on a tiny graph, an update of one parameter) and one of a small network, each with an
optimizer and by hand, timed bare and inside `unstuck.watch()` on steps that are not sampled, in turns (A B A B …); the
median difference is the cost. The rows below it leave a part of the work out: what that saves is the part's share.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch

from unstuck.capture import unwatched
from unstuck.capture.ledger import Ledger
from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session

STEPS, ROUNDS = 1_500, 15
EVENTS = ("counts_backward", "counts_backward_end", "counts_update", "counts_update_end")


def yes(*_: object) -> bool:
    """Stand in for an event that was counted."""
    return True


PARTS: dict[str, Callable[[], list[tuple[object, str, Callable[..., object]]]]] = {
    "all": list,
    "without reading the loss": lambda: [(unwatched, "_read", lambda _: 1.0)],
    "without entering the duration": lambda: [(Ledger, "plain", lambda *_: None)],
    "without time and schedule": lambda: [(Session, "_counts_step", yes)],
    "wrappers and hooks alone": lambda: [(Session, name, yes) for name in EVENTS],
}

Steps = Callable[[int], float]
Loss = Callable[[], torch.Tensor]


def smallest() -> tuple[list[torch.Tensor], Loss]:
    """Return the parameters and the loss of the smallest step there is."""
    w = torch.ones(1, requires_grad=True)
    return [w], lambda: (w * w).sum()


def names() -> tuple[list[torch.Tensor], Loss]:
    """Return those of the lecture's network, batch 32: its work empties the caches of our code between two steps."""
    g = torch.Generator().manual_seed(0)
    shapes = [(27, 10), (30, 200), (200,), (200, 27)]
    parameters = [(0.1 * torch.randn(*shape, generator=g)).requires_grad_() for shape in shapes]
    x, y = torch.randint(0, 27, (30_000, 3), generator=g), torch.randint(0, 27, (30_000,), generator=g)
    embedding, w1, b1, w2 = parameters

    def loss() -> torch.Tensor:
        rows = torch.randint(0, 30_000, (32,), generator=g)
        hidden = torch.tanh(embedding[x[rows]].view(32, -1) @ w1 + b1)
        return torch.nn.functional.cross_entropy(hidden @ w2, y[rows])

    return parameters, loss


def with_optimizer(parameters: list[torch.Tensor], loss: Loss) -> Steps:
    """Return a function that makes n steps and returns seconds a step."""
    optimizer = torch.optim.SGD(parameters, lr=1e-6)

    def steps(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        return (time.perf_counter() - begun) / n

    return steps


def by_hand(parameters: list[torch.Tensor], loss: Loss) -> Steps:
    """Return the same without an optimizer."""

    def steps(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            for parameter in parameters:
                parameter.grad = None
            loss().backward()
            for parameter in parameters:
                parameter.data -= 1e-6 * parameter.grad
        return (time.perf_counter() - begun) / n

    return steps


def watched(steps: Steps, part: str) -> float:
    """Return seconds a step that is not sampled, with a part of our work left out."""
    with Session(Schedule(every=1_000_000)) as session:
        steps(20)  # past the first, sampled ones
        changes = [patch.object(owner, name, stand_in) for owner, name, stand_in in PARTS[part]()]
        for change in changes:
            change.start()
        seconds = steps(STEPS)
        for change in changes:
            change.stop()
    if session.trace.facts.internal_error:
        raise SystemExit(session.trace.facts.internal_error)
    return seconds


def main() -> None:
    """Print a markdown table for each kind of loop."""
    torch.set_num_threads(1)
    for network, make in itertools.product((smallest, names), (with_optimizer, by_hand)):
        steps, bare = make(*network()), []
        steps(STEPS)
        times: dict[str, list[float]] = {part: [] for part in PARTS}
        for _ in range(ROUNDS):
            for part, seconds in times.items():
                bare.append(steps(STEPS))
                seconds.append(watched(steps, part))
        base = statistics.median(bare) * 1e6
        print(f"\nbare step of {network.__name__}, {make.__name__.replace('_', ' ')}: {base:.1f} µs\n")
        print("| what is done on an unsampled step | step, µs | added, µs |\n|---|---:|---:|")
        for part, seconds in times.items():
            step = statistics.median(seconds) * 1e6
            print(f"| {part} | {step:.1f} | {step - base:.1f} |")


if __name__ == "__main__":
    main()
