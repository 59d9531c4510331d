"""One workload under one tool in this process: `python -m benchmarks.one_process WORKLOAD TOOL --out FILE`.

`benchmarks.overhead` starts it; it prints nothing of its own and writes what it measured to FILE as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.watchers import TOOLS, Nothing, Tool
from benchmarks.workloads import ONE_WEIGHT, WORKLOADS, Workload

LONGEST = 120.0  # seconds, for tools that make all the steps


@dataclass(frozen=True)
class Measured:
    """What one process measured: seconds, and resident memory in MB (10^6 bytes; None where the system tells none).

    `resident` is what is in use once torch has trained one weight, unwatched, and the tool is imported; `peak` is the
    most that the workload added to it. `others` is the share of all CPUs that other programs took meanwhile, which
    `benchmarks.overhead` fills in.
    """

    step_seconds: float  # a step after the warm-up
    step_seconds_from_start: float  # a step of the whole run, the tool's start included
    start_seconds: float  # from before the tool starts to the end of the warm-up
    import_seconds: float  # of the tool, torch being there
    timed_steps: int
    sampled_steps: int | None  # of the timed ones; where the tool says
    resident: float | None
    peak: float | None
    others: float | None = None


def measure(workload: Workload, tool: Tool, seconds: float) -> Measured:
    """Train under the tool: the warm-up, then for `seconds` or all the steps."""
    _load_torch()
    begun = time.perf_counter()
    if tool.module:
        importlib.import_module(tool.module)
    import_seconds = time.perf_counter() - begun
    resident = _memory("VmRSS")
    torch.manual_seed(1)
    training = workload.build()
    _forget_peak()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        begun = time.perf_counter()
        with tool.watch(training, Path(folder)) as observer:
            for _ in range(workload.warm_up):
                training.step(observer)
            warm = time.perf_counter()
            timed, limit = 0, warm + (LONGEST if tool.all_steps else seconds)
            while timed < workload.steps - workload.warm_up and time.perf_counter() < limit:
                training.step(observer)
                timed += 1
            now = time.perf_counter()
            peak = _memory("VmHWM")
            sampled = getattr(observer, "sampled", None)
            return Measured(
                step_seconds=(now - warm) / timed,
                step_seconds_from_start=(now - begun) / (workload.warm_up + timed),
                start_seconds=warm - begun,
                import_seconds=import_seconds,
                timed_steps=timed,
                sampled_steps=sampled(workload.warm_up) if sampled else None,
                resident=resident,
                peak=None if peak is None or resident is None else peak - resident,
            )


def _load_torch() -> None:
    """Make a few steps, so that what torch itself loads on first use is in no difference."""
    training = ONE_WEIGHT.build()
    for _ in range(ONE_WEIGHT.warm_up):
        training.step(Nothing())


def _memory(what: str) -> float | None:
    """MB of resident memory now (VmRSS) or at most (VmHWM): https://man7.org/linux/man-pages/man5/proc_pid_status.5.html."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def _forget_peak() -> None:
    """Let VmHWM begin anew from what is resident now, so that imports and the making of data are not in it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main() -> None:
    """Measure and write the numbers, or the error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=[ONE_WEIGHT.name, *WORKLOADS])
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workload = WORKLOADS.get(options.workload, ONE_WEIGHT)
    try:
        found: dict[str, object] = asdict(measure(workload, TOOLS[options.tool], options.seconds))
    except ModuleNotFoundError as error:
        found = {"error": f"not installed (no module {error.name})"}
    except Exception as error:  # noqa: BLE001
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    options.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
