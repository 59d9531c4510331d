"""Run one program under watch and say, as JSON on the last line, what was found, where, and how early.

    python -m zoo.watch_one PROGRAM.py [METRIC]

A finding's first step is found by judging the record again as it was after each sampled step.
"""

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
from unstuck.findings import Severity
from unstuck.rules.causes import group
from unstuck.trace import Trace


def first_roots(trace: Trace, config: Config) -> dict[str, int]:
    """Return, for each code that was ever the first root, the first step after which it was."""
    first: dict[str, int] = {}
    for step in trace.steps:
        causes = group(judge(trace.until(step), config)[0])
        if causes and causes[0].root.severity > Severity.INFO:
            first.setdefault(causes[0].root.code, step)
    return first


def watch(program: Path, metric: str) -> dict[str, Any]:
    """Run a program and return what was found."""
    config, output = Config(), io.StringIO()
    watched = Run(config, title=program.name)
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
        "first_named": first_roots(report.trace, config),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(watch(Path(sys.argv[1]).resolve(), *(sys.argv[2:] or ["final_loss"]))) + "\n")
