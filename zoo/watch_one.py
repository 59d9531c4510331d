"""Run one program under watch and say, as JSON on the last line, what was found, where, and how early.

    python -m zoo.watch_one PROGRAM.py [--metric NAME] [--root CODE] [--steps N]

When a root was first named is found by judging the record again as it was after each sampled step.
"""

import argparse
import io
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from unstuck.api import MENDING, Run, judge
from unstuck.capture.programs import read_program
from unstuck.capture.script import run_program
from unstuck.config import Config
from unstuck.report import Report
from unstuck.rules.causes import group


def first_named(report: Report, config: Config, root: str) -> int | None:
    """Return the first step after which a code, of whatever severity, led the report; None when it never did.

    What only the end shows (a run without a single step, say) counts for the last step.
    """
    for step in report.trace.steps:
        causes = group(judge(report.trace.until(step), config)[0])
        if causes and causes[0].root.code == root:
            return step
    leads = bool(report.causes) and report.causes[0].root.code == root
    return max(report.run.steps - 1, 0) if leads else None


def watch(
    program: Path, metric: str = "final_loss", root: str | None = None, steps: int | None = None
) -> dict[str, Any]:
    """Run a program, for at most so many steps, and return what was found."""
    config, output = Config(), io.StringIO()
    watched = Run(config, max_steps=steps, title=program.name)
    begun = time.perf_counter()
    with redirect_stdout(output), watched:
        outcome = run_program(read_program(program), [])
    seconds = time.perf_counter() - begun
    report = watched.report()
    failed = "; ".join(f"{r.code}: {r.lacking}" for r in report.not_checked if r.lacking.startswith(MENDING)) or None
    values = [line.split()[1] for line in output.getvalue().splitlines() if line.startswith(f"{metric} ")]
    return {
        "exit_code": outcome.exit_code,
        "internal_error": report.trace.facts.internal_error or failed,
        "steps": report.run.steps,
        "seconds": seconds,
        "metric": values[-1] if values else None,
        "codes": report.codes(),
        "roots": [
            {
                "code": cause.root.code,
                "severity": str(cause.root.severity),
                "file": Path(cause.root.location.file).name if cause.root.location else None,
                "line": cause.root.location.line if cause.root.location else None,
                "message": cause.root.message,
            }
            for cause in report.causes
        ],
        "not_checked": {rule.code: rule.lacking for rule in report.not_checked},
        "first_named": None if root is None else first_named(report, config, root),
    }


def main(arguments: list[str] | None = None) -> int:
    """Watch the program named and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m zoo.watch_one", description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--metric", default="final_loss", help="name before the number on the last line of output")
    parser.add_argument("--root", metavar="CODE", help="also find the step at which this code was first named first")
    parser.add_argument("--steps", type=int, metavar="N", help="end the training after N updates")
    options = parser.parse_args(arguments)
    found = watch(options.program.resolve(), options.metric, options.root, options.steps)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
