"""How right and how quiet the rules are: every program of the zoo under watch, as markdown tables.

    python -m zoo.evaluate [--jobs 2] [--steps N] [--half tuned|frozen|all] [--part K/N] [--each] [--json FILE]
                           [SLUG ...]
    python -m zoo.evaluate --fix [--jobs 2] [--half tuned|frozen|all] [--part K/N] [--json FILE] [SLUG ...]

A fault is *found* when all codes of its expect.toml are among the findings, *named first* when its root leads the
report, *pointed at* when that finding names the line. A warning or error on a fixed twin or a healthy program is a
false alarm. *Recall* is the share of faults found (of a rule: of the programs that expect its code, those in which it
is among the findings), *precision* the share of the reports led by a warning or error (of a rule: by its own) in which
that one is the expected root. Half of each collection stands in `frozen.txt`: thresholds are set by looking at the
other half alone. With `--fix` the programs are mended and run instead; see `zoo.repairs`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo import repairs
from zoo.collection import EXTRA, ZOO, Program, chosen, frozen, has_extra, in_part, programs
from zoo.processes import INTERRUPTED, Processes, ProgramError, at_least_one, each, failed
from zoo.tables import Seen, half, report

__all__ = ["Program", "Seen", "as_data", "frozen", "has_extra", "in_part", "main", "measure", "programs", "watch"]

TIME_LIMIT = 300  # seconds per program


def watch(program: Program, processes: Processes, steps: int | None = None) -> Seen:
    """Run a program under watch in a process of its own; raises ProgramError when it or the watching fails."""
    command = ["-m", "zoo.watch_one", str(program.path), "--metric", program.metric]
    command += ["--root", program.root] if program.root else []
    command += ["--steps", str(steps)] if steps else []
    printed = processes.run(
        command, label=program.key, time_limit=TIME_LIMIT, folder=ZOO.parent, ranks=program.processes
    )
    try:
        result = json.loads(printed.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise ProgramError(f"{program.key} ended before it could be judged") from None
    if result["exit_code"] or result["internal_error"]:
        raise ProgramError(f"{program.key}: exit code {result['exit_code']}, {result['internal_error']}")
    return Seen(program, result)


def measure(
    faulty: Sequence[Program], working: Sequence[Program], jobs: int, steps: int | None = None
) -> tuple[list[Seen], list[Seen], list[str]]:
    """Watch programs, `jobs` at a time; return the faulty and the working ones, and what went wrong with others."""
    seen, failures = each(lambda program, processes: watch(program, processes, steps), [*faulty, *working], jobs)
    return [s for s in seen if s.program.root], [s for s in seen if not s.program.root], failures


def as_data(seen: Seen) -> dict[str, Any]:
    """Return everything known of a program, for JSON."""
    about = {"program": seen.program.key, "half": half(seen), "root": seen.program.root}
    if seen.program.root:
        about |= {what: getattr(seen, what) for what in ("found", "named_first", "pointed", "findable")}
    return {**about, **seen.result}


def _part(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, such as 1/3, got {text!r}")
    return int(part), int(parts)


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m zoo.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SLUG", help="programs to run (default: all)")
    parser.add_argument(
        "--jobs", type=at_least_one, default=2, metavar="N", help="programs to run at a time (default: 2)"
    )
    parser.add_argument("--steps", type=at_least_one, metavar="N", help="end each training after N updates")
    parser.add_argument("--half", choices=["tuned", "frozen", "all"], default="all")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="the K-th of N parts, by the names")
    parser.add_argument("--each", action="store_true", help="also print a table of each faulty program")
    parser.add_argument("--fix", action="store_true", help="mend the programs, and show what came of it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every result")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Watch the programs and print the tables; return the exit code, 1 when a program could not be measured."""
    parser = arguments_parser()
    options = parser.parse_args(arguments)
    faulty, working = programs()
    if not has_extra():
        sys.stderr.write(f"healthy/architectures is left out: it needs {EXTRA} (pip install 'unstuck[third-party]')\n")
    if unknown := sorted(set(options.names) - {program.name for program in [*faulty, *working]}):
        parser.error(f"no such program: {', '.join(unknown)}")
    faulty, working = (
        chosen(group, part=options.part, half=options.half, names=options.names) for group in (faulty, working)
    )
    if options.fix and (options.steps or options.each):
        parser.error("--fix runs each program to its end and lists them all: leave --steps and --each out")
    try:
        if options.fix:
            return _fix(faulty, working, options.jobs, options.json)
        seen_faulty, seen_working, failures = measure(faulty, working, options.jobs, options.steps)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    sys.stdout.write(report(seen_faulty, seen_working, each=options.each, steps=options.steps) + "\n")
    if options.json:
        data = [as_data(seen) for seen in seen_faulty + seen_working]
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if failures:
        sys.stdout.write(f"\n{failed(failures)}\n")
    return 1 if failures else 0


def _fix(faulty: Sequence[Program], working: Sequence[Program], jobs: int, file: Path | None) -> int:
    done, alone, failures = repairs.measure(faulty, working, jobs)
    sys.stdout.write(repairs.report(done, alone) + "\n")
    if file is not None:
        data = [repairs.as_data(result) for result in [*done, *alone]]
        file.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if failures:
        sys.stdout.write(f"\n{failed(failures)}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
