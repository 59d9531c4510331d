"""Run every faulty program and its fixed twin, and show that the fault really costs something.

    python -m zoo.check [--jobs 2] [SLUG ...]

Prints a markdown table; exits with 1 when a faulty program is not worse than its twin by at least 5 %.
"""

import argparse
import math
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.processes import INTERRUPTED, Processes, ProgramError, at_least_one, each, failed

FAULTY = Path(__file__).resolve().parent / "faulty"
MARGIN = 0.05  # of the twin's loss; the smallest difference that counts as worse
TIME_LIMIT = 120  # seconds per program; the slowest takes 6 on one idle core


class Result(NamedTuple):
    """One pair after both runs."""

    slug: str
    root: str
    faulty: float
    fixed: float
    must_be_worse: bool

    @property
    def is_worse(self) -> bool:
        """Tell whether the faulty program ended worse than its twin; a loss that is not finite is worse."""
        return not math.isfinite(self.faulty) or self.faulty - self.fixed > MARGIN * abs(self.fixed)

    @property
    def passes(self) -> bool:
        """Tell whether the pair is as its expect.toml says."""
        return math.isfinite(self.fixed) and (self.is_worse or not self.must_be_worse)


def final_metric(script: Path, name: str, processes: Processes, ranks: int = 1) -> float:
    """Run a program on one thread (in so many processes) and return the number of the one line `NAME NUMBER` it prints.

    Raises ProgramError when the program fails, runs too long, or prints that line not exactly once.
    """
    label = f"{script.parent.name}/{script.name}"
    printed = processes.run([str(script)], label=label, time_limit=TIME_LIMIT, ranks=ranks)
    values = [line.removeprefix(name) for line in printed.splitlines() if line.startswith(f"{name} ")]
    if len(values) != 1:
        raise ProgramError(f"{label} printed {len(values)} lines '{name} NUMBER', not one")
    try:
        return float(values[0])
    except ValueError:
        raise ProgramError(f"{label} printed '{name}{values[0]}', not a number") from None


def run_pair(folder: Path, processes: Processes) -> Result:
    """Run both programs of a folder and compare them as its expect.toml says."""
    expect = tomllib.loads((folder / "expect.toml").read_text(encoding="utf-8"))
    metric, ranks = expect["metric"], expect.get("processes", 1)
    faulty, fixed = (final_metric(folder / name, metric, processes, ranks) for name in ("faulty.py", "fixed.py"))
    return Result(folder.name, expect["root"], faulty, fixed, expect.get("worse", True))


def slugs() -> list[str]:
    """Return the names of all pairs."""
    return sorted(path.parent.name for path in FAULTY.glob("*/expect.toml"))


def measure(names: Sequence[str], jobs: int) -> tuple[list[Result], list[str]]:
    """Run pairs, `jobs` at a time; return the results, and what went wrong with others."""
    return each(run_pair, [FAULTY / name for name in names], jobs)


def table(results: list[Result]) -> str:
    """Return the results as a markdown table."""
    lines = ["| slug | root | faulty final_loss | fixed final_loss | worse? |", "|---|---|---:|---:|---|"]
    for r in results:
        verdict = ("yes" if r.is_worse else "no") + ("" if r.passes else " (FAILS)")
        verdict += "" if r.must_be_worse else " (need not be)"
        lines.append(f"| {r.slug} | {r.root} | {r.faulty:.4f} | {r.fixed:.4f} | {verdict} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the pairs named (default: all) and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.check", description=__doc__.splitlines()[0])
    parser.add_argument("slugs", nargs="*", metavar="SLUG", help="pairs to run (default: all)")
    parser.add_argument("--jobs", type=at_least_one, default=2, metavar="N", help="pairs to run at a time (default: 2)")
    options = parser.parse_args(arguments)
    known = slugs()
    if unknown := sorted(set(options.slugs) - set(known)):
        parser.error(f"no such pair: {', '.join(unknown)}; known: {', '.join(known)}")
    try:
        results, failures = measure(options.slugs or known, options.jobs)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    sys.stdout.write(table(results) + "\n")
    if failures:
        sys.stdout.write(f"\n{failed(failures)}\n")
    return 0 if not failures and all(result.passes for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
