"""What recording a run costs: `python -m benchmarks.recording [--workloads names,resnet,transformer] [--seconds 20]`.

Each workload of `benchmarks.overhead` trains under the built-in schedule while it is recorded. CPU time is that of one
thread (`time.thread_time`), so that other programs disturb it little: of the training thread, while it hands over a
sampled step, and of the thread that writes, all of it. The latter runs beside the training where there is a core to
spare, and takes its Python from it where there is none. Opening the file and ending the run are given apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import unstuck
from benchmarks.watchers import Nothing
from benchmarks.workloads import WORKLOADS, Workload
from unstuck.trace.recording import Recording
from unstuck.trace.store import bytes_of
from unstuck.trace.writer import StoreWriter

HEAD = "| workload | steps | sampled | handing over, µs a sample | writing, µs a sample | between samples, µs each "
HEAD += "| of the training time, % | opening, ms | ending, ms | file, MB |\n"


class Clock:
    """Adds up the CPU time of the calls of a function, in seconds."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls, self.seconds = 0, 0.0

    def __get__(self, owner: object, _: type) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begun = time.thread_time()
            result = self.function(owner, *arguments)
            self.seconds += time.thread_time() - begun
            self.calls += result is not None or self.function.__name__ != "_between"
            return result

        return timed


def row(workload: Workload, seconds: float) -> str:
    """Train a workload for some seconds, recorded; return what that cost as a row of the table."""
    clocks = {name: Clock(getattr(place, name)) for place, name in PLACES}
    for place, name in PLACES:
        setattr(place, name, clocks[name])
    torch.manual_seed(1)
    training, observer = workload.build(), Nothing()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with unstuck.watch(record=Path(folder) / "run.sqlite") as run:
            opened = time.perf_counter() - begun - run.session.loading_seconds
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                training.step(observer)
            ended = time.perf_counter()
        ending = time.perf_counter() - ended
        size = bytes_of(Path(folder) / "run.sqlite")
    for place, name in PLACES:
        setattr(place, name, clocks[name].function)
    sampled = len(run.session.trace.steps)
    handing, between, writing = (clocks[name] for name in ("hand_over", "_between", "append"))
    share = 100 * (handing.seconds + between.seconds + writing.seconds) / seconds
    cells = [workload.name, f"{run.session.steps:,}", str(sampled)]
    cells += [f"{1e6 * clock.seconds / sampled:,.0f}" for clock in (handing, writing)]
    cells += [f"{1e6 * between.seconds / max(1, between.calls):,.0f} ({between.calls} ×)", f"{share:.2f}"]
    cells += [f"{1e3 * opened:.0f}", f"{1e3 * ending:.0f}", f"{size / 1e6:.1f}"]
    return f"| {' | '.join(cells)} |"


PLACES = ((Recording, "hand_over"), (Recording, "_between"), (StoreWriter, "append"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(HEAD + "|---|" + "---:|" * 9)
    for name in chosen.workloads.split(","):
        print(row(WORKLOADS[name], chosen.seconds), flush=True)


if __name__ == "__main__":
    main()
