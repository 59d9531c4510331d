"""Run every faulty program and its fixed twin, and show that the fault really costs something.

    python -m zoo.check [--jobs 2] [SLUG ...]

Prints a markdown table; exits with 1 when a faulty program is not worse than its twin by at least 5 %.
"""

import argparse
import math
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

FAULTY = Path(__file__).resolve().parent / "faulty"
MARGIN = 0.05  # of the twin's loss; the smallest difference that counts as worse
TIME_LIMIT = 120  # seconds per program; the slowest takes 6 on one idle core


class ProgramError(RuntimeError):
    """A program that stopped, or printed no final metric."""


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


def final_metric(script: Path, name: str) -> float:
    """Run a program on one thread and return the number of the one line `NAME NUMBER` it prints.

    Raises ProgramError when the program fails, runs too long, or prints that line not exactly once.
    """
    label = f"{script.parent.name}/{script.name}"
    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{label} took longer than {TIME_LIMIT} s") from None
    if done.returncode:
        raise ProgramError(f"{label} exited with {done.returncode}:\n{done.stderr}")
    values = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(f"{name} ")]
    if len(values) != 1:
        raise ProgramError(f"{label} printed {len(values)} lines '{name} NUMBER', not one")
    return float(values[0])


def run_pair(folder: Path) -> Result:
    """Run both programs of a folder and compare them as its expect.toml says."""
    expect = tomllib.loads((folder / "expect.toml").read_text(encoding="utf-8"))
    faulty, fixed = (final_metric(folder / name, expect["metric"]) for name in ("faulty.py", "fixed.py"))
    return Result(folder.name, expect["root"], faulty, fixed, expect.get("worse", True))


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
    parser.add_argument("--jobs", type=int, default=2, help="programs to run at a time (default: 2)")
    options = parser.parse_args(arguments)
    known = sorted(path.parent.name for path in FAULTY.glob("*/expect.toml"))
    if unknown := sorted(set(options.slugs) - set(known)):
        parser.error(f"no such pair: {', '.join(unknown)}; known: {', '.join(known)}")
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(run_pair, [FAULTY / slug for slug in options.slugs or known]))
    except ProgramError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(table(results) + "\n")
    return 0 if all(result.passes for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
