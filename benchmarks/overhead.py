"""What watching costs: time added to a step and memory added to its peak, by unstuck and by its peers.

    pip install -r benchmarks/requirements.txt  # the peers, pinned; torch and unstuck being installed
    python -m benchmarks.overhead [--workloads names,resnet,transformer] [--tools bare,...] [--rounds 5] [--json FILE]

Prints one markdown table: a row a tool, two columns a workload. Every tool and round has a process of its own, and the
tools take turns within a round (A B C … A B C …). A cell compares with the bare loop of the same round and shows the
median over the rounds (least … most).

Time is that of a step after the warm-up, during `--seconds` or the workload's steps, whichever end first; the bare loop
and unstuck's built-in schedule, which samples ever more sparsely, always make all the steps. Of that schedule a second
row has the whole run: the start of the tool and the densely sampled first steps are in it. A workload of few steps
shows what the steps cost that this schedule always samples (14 of the transformer's 90 timed ones); its budget is kept
in longer runs.

Memory is the peak of the resident memory of the training process beyond what it holds before the model is built, less
the same of one weight trained under the same tool: code that is loaded on first use is not the step's. That code, the
tool's own `import` and the time both take are the columns "once". Memory of helper processes (wandb has one) and what
a tool does after the last step are in no number. Differences of a few MB are the allocator's, also those below zero,
where the bare workload loads a part of the same code. `--json` has what was measured before anything is subtracted.

On Linux a process waits up to 20 s for other programs to leave it its CPUs, and is measured again, up to `--tries`
times, when they took more than 5 % of all CPUs meanwhile; the least disturbed try counts. The notes under the table say
how much disturbance was left.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.one_process import LONGEST, Measured
from benchmarks.watchers import TOOLS
from benchmarks.workloads import ONE_WEIGHT, WORKLOADS, Workload

ROOT = Path(__file__).resolve().parents[1]
GRACE = 120.0  # seconds a process may take beyond its steps: imports, start and end of the tool
DISTURBED = 0.05  # of all CPUs, taken by other programs
PATIENCE = 20.0  # seconds to wait for other programs before measuring all the same

Results = dict[tuple[str, str], list[Measured]]
"""(workload, tool) -> one measurement a round; fewer than rounds where the tool failed."""


def run_process(workload: str, tool: str, threads: int, seconds: float) -> Measured | str:
    """Measure in a new process; return the numbers or, in one line, what went wrong."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UNSTUCK_")}
    environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "benchmarks.one_process", workload, tool, "--out", str(out)]
        command += ["--threads", str(threads), "--seconds", str(seconds)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, timeout=LONGEST + GRACE, check=False
            )
        except subprocess.TimeoutExpired as error:
            return f"not done after {error.timeout:.0f} s"
        if not out.exists():
            return f"ended with exit code {done.returncode}"
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found["error"] if "error" in found else Measured(**found)


def run_undisturbed(workload: str, tool: str, threads: int, seconds: float, tries: int) -> Measured | str:
    """Measure up to `tries` times, until other programs keep quiet; return the least disturbed measurement."""
    best: Measured | None = None
    for _ in range(tries):
        _wait_for_quiet(threads)
        with Others(threads) as others:
            measured = run_process(workload, tool, threads, seconds)
        if isinstance(measured, str) or others.share is None:
            return measured
        if best is None or others.share < (best.others or 0):
            best = replace(measured, others=others.share)
        if others.share <= DISTURBED:
            break
    assert best is not None
    return best


class Others:
    """How much of the CPUs other programs took during the block, as a share of all; None where nobody tells.

    What fits on the CPUs that the measured threads leave free disturbs nobody and is not in it.
    """

    share: float | None = None

    def __init__(self, threads: int) -> None:
        self.cpus = os.cpu_count() or 1
        self.free = max(0, self.cpus - threads)

    def __enter__(self) -> Others:
        self.begun, self.busy, self.ours = time.perf_counter(), _busy_seconds(), _our_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        busy, elapsed = _busy_seconds(), time.perf_counter() - self.begun
        if busy is not None and self.busy is not None:
            others = (busy - self.busy - (_our_seconds() - self.ours)) / elapsed  # CPUs
            self.share = max(0.0, others - self.free) / self.cpus


def _wait_for_quiet(threads: int) -> None:
    """Wait until other programs leave the CPUs alone for half a second, but not for ever."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < PATIENCE:
        with Others(threads) as others:
            time.sleep(0.5)
        if (others.share or 0) <= DISTURBED:
            break


def _busy_seconds() -> float | None:
    """Seconds that all CPUs together have worked: https://man7.org/linux/man-pages/man5/proc_stat.5.html."""
    with suppress(OSError):
        user, nice, system, _idle, _iowait, *interrupts = map(
            int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
        )
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return None


def _our_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended, with theirs."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measure_all(
    workloads: Sequence[Workload], tools: Sequence[str], rounds: int, run: Callable[[str, str], Measured | str]
) -> tuple[Results, dict[str, str]]:
    """Measure every workload under every tool, in turns; return the numbers and why a tool has none.

    A tool that fails once is left out of that workload's other rounds; one that fails on one weight, of all.
    """
    results: Results = {}
    failed: dict[str, str] = {}
    say = sys.stderr.write if sys.stderr.isatty() else len
    for tool in tools:  # a first run of each, in no number: files come from the disk, compiled code is kept there
        outcome = run(ONE_WEIGHT.name, tool)
        if isinstance(outcome, str):
            failed[TOOLS[tool].label] = outcome
    able = [tool for tool in tools if TOOLS[tool].label not in failed]
    for workload in (ONE_WEIGHT, *workloads):
        out: set[str] = set()
        for number in range(rounds):
            for tool in able:
                if tool in out:
                    continue
                say(f"\r{workload.name}, round {number + 1} of {rounds}: {tool:20}")
                outcome = run(workload.name, tool)
                if isinstance(outcome, str):
                    out.add(tool)
                    failed[f"{TOOLS[tool].label} on {workload.name}"] = outcome
                else:
                    results.setdefault((workload.name, tool), []).append(outcome)
    say(f"\r{'':60}\r")
    return results, failed


def pairs(results: Results, workload: str, tool: str) -> Iterator[tuple[Measured, Measured]]:
    """The tool's and the bare measurement of each round that has both."""
    return zip(results.get((workload, tool), []), results.get((workload, "bare"), []), strict=False)


def added_time(results: Results, workload: str, tool: str, *, from_start: bool = False) -> list[float]:
    """Per round: seconds a step over bare seconds a step, less one."""
    what = "step_seconds_from_start" if from_start else "step_seconds"
    return [getattr(watched, what) / getattr(bare, what) - 1 for watched, bare in pairs(results, workload, tool)]


def step_memory(results: Results, workload: str, tool: str) -> list[float]:
    """Per round: MB that the workload takes beyond one weight under the same tool."""
    rounds = zip(results.get((workload, tool), []), results.get((ONE_WEIGHT.name, tool), []), strict=False)
    return [m.peak - one.peak for m, one in rounds if m.peak is not None and one.peak is not None]


def added_memory(results: Results, workload: str, tool: str) -> list[float]:
    """Per round: MB of `step_memory` beyond those of the bare loop."""
    both = zip(step_memory(results, workload, tool), step_memory(results, workload, "bare"), strict=False)
    return [watched - bare for watched, bare in both]


def once(results: Results, tool: str) -> tuple[list[float], list[float]]:
    """Per round: seconds and MB that the tool takes once: its import, and its first use, on one weight."""
    seconds, megabytes = [], []
    for watched, bare in pairs(results, ONE_WEIGHT.name, tool):
        seconds.append(watched.import_seconds + watched.start_seconds - bare.start_seconds)
        if None not in (watched.resident, watched.peak, bare.resident, bare.peak):
            megabytes.append(watched.resident + watched.peak - bare.resident - bare.peak)
    return seconds, megabytes


def spread(values: Sequence[float], form: str) -> str:
    """Median (least … most), or a dash."""
    if not values:
        return "–"
    middle, least, most = (format(v, form) for v in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least} … {most})"


def _memory_cell(results: Results, workload: str, tool: str) -> str:
    added, step = added_memory(results, workload, tool), step_memory(results, workload, "bare")
    if not added:
        return "–"
    share = statistics.median(added) / statistics.median(step)
    return f"{spread(added, '+.1f')}, {share:+.0%}"


def _bare_row(results: Results, workloads: Sequence[Workload]) -> list[str]:
    cells = [TOOLS["bare"].label]
    for workload in workloads:
        milliseconds = [1e3 * m.step_seconds for m in results.get((workload.name, "bare"), [])]
        cells.append(f"{spread(milliseconds, '.3g')} ms")
        cells.append(f"{spread(step_memory(results, workload.name, 'bare'), '.1f')} MB")
    return [*cells, "–", "–"]


def table(results: Results, workloads: Sequence[Workload], tools: Sequence[str]) -> str:
    """The markdown table: bare absolutely, every tool as what it adds."""
    head = ["tool"]
    for workload in workloads:
        head += [f"{workload.name}: added time, × bare", f"{workload.name}: added memory, MB, % of bare"]
    rows = [_bare_row(results, workloads)]
    for tool in tools:
        if tool == "bare":
            continue
        label, default = TOOLS[tool].label, TOOLS[tool].all_steps
        cells = [label]
        for workload in workloads:
            cells.append(spread(added_time(results, workload.name, tool), ".2f"))
            cells.append(_memory_cell(results, workload.name, tool))
        seconds, megabytes = once(results, tool)
        rows.append([*cells, spread(seconds, ".2f"), spread(megabytes, ".0f")])
        if default:
            cells = [f"{label}, from step 0 on"]
            for workload in workloads:
                cells += [spread(added_time(results, workload.name, tool, from_start=True), ".2f"), "as above"]
            rows.append([*cells, "in the times", "as above"])
    lines = [[*head, "once: s", "once: MB"], ["---", *["---:"] * (len(rows[0]) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def notes(results: Results, workloads: Sequence[Workload], failed: dict[str, str]) -> str:
    """What the rows and columns stand for, how much disturbed the numbers are, and why cells are empty."""
    lines = []
    for workload in workloads:
        lines.append(
            f"- {workload.name}: {workload.what}; warm-up {workload.warm_up} steps, at most {workload.steps:,} in all"
        )
        for (name, tool), rounds in results.items():
            if name == workload.name and TOOLS[tool].all_steps and rounds[0].sampled_steps is not None:
                sampled, timed = rounds[0].sampled_steps, rounds[0].timed_steps
                lines[-1] += f"; {TOOLS[tool].label}, samples {sampled} of {timed:,} timed steps"
    if others := [m.others for rounds in results.values() for m in rounds if m.others is not None]:
        over = sum(share > DISTURBED for share in others)
        lines.append(
            f"- other programs took {statistics.median(others):.0%} of the CPUs in the median process, "
            f"and more than {DISTURBED:.0%} in {over} of {len(others)}"
        )
    return "\n".join([*lines, *(f"- {what}: {why}" for what, why in failed.items())])


def machine(threads: int) -> str:
    """What this was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        cpu = named[0].partition(":")[2].strip() if named else cpu
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"
    return f"{cpu}, {os.cpu_count()} CPUs, threads: {threads}; {versions}"


def _chosen(text: str, known: dict[str, Any], parser: argparse.ArgumentParser) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return names


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"tools: {', '.join(TOOLS)}; workloads: {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--tools", default=",".join(TOOLS), help="bare is always among them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="timed in each process")
    parser.add_argument("--tries", type=int, default=3, help="at most, while other programs keep the CPUs busy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every measurement")
    options = parser.parse_args()
    workloads = [WORKLOADS[name] for name in _chosen(options.workloads, WORKLOADS, parser)]
    tools = list(dict.fromkeys(["bare", *_chosen(options.tools, TOOLS, parser)]))

    def run(workload: str, tool: str) -> Measured | str:
        return run_undisturbed(workload, tool, options.threads, options.seconds, options.tries)

    results, failed = measure_all(workloads, tools, options.rounds, run)
    print(f"{machine(options.threads)}; {options.rounds} rounds\n\n{table(results, workloads, tools)}\n")
    print(notes(results, workloads, failed))
    if options.json:
        rounds = [
            {"workload": workload, "tool": tool, "round": number, **vars(measured)}
            for (workload, tool), measurements in results.items()
            for number, measured in enumerate(measurements)
        ]
        report = {"machine": machine(options.threads), "rounds": rounds, "failed": failed}
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
