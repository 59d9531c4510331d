"""How right and how quiet the rules are: every program of the zoo under watch, as markdown tables.

    python -m zoo.evaluate [--jobs 2] [--half tuned|frozen|all] [--part K/N] [--json FILE] [SLUG ...]

A fault is *found* when all codes of its expect.toml are among the findings, *named first* when its root leads the
report, *pointed at* when that finding names the line. A warning or error on a fixed twin or a healthy program is a
false alarm. Half of each collection stands in `frozen.txt`: thresholds are set by looking at the other half alone.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ZOO = Path(__file__).resolve().parent
TIME_LIMIT = 300  # seconds per program
EARLY = 50  # step; faults of initialisation, loss and loop should be named by then
EARLY_GROUPS = ("I", "L", "T")
EXTRA = "transformers"  # what the programs of healthy/architectures import; an optional package


class Program(NamedTuple):
    """A program, and what must be found in it: nothing in a working one."""

    path: Path
    name: str
    root: str | None = None
    codes: frozenset[str] = frozenset()
    line: int | None = None
    metric: str = "final_loss"


class Seen(NamedTuple):
    """A program and what was found."""

    program: Program
    result: dict[str, Any]

    @property
    def alarms(self) -> list[str]:
        """The root findings of warning or worse."""
        return [f"{root['code']}: {root['message']}" for root in self.result["roots"] if root["severity"] != "info"]

    @property
    def found(self) -> bool:
        """Whether all expected codes are among the findings."""
        return self.program.codes <= set(self.result["codes"])

    @property
    def named_first(self) -> bool:
        """Whether the expected root leads."""
        return bool(self.result["roots"]) and self.result["roots"][0]["code"] == self.program.root

    @property
    def pointed(self) -> bool:
        """Whether the root is named first, at the right line."""
        return self.named_first and self.result["roots"][0]["line"] == self.program.line

    @property
    def first_step(self) -> int | None:
        """The step after which the expected root was first named first."""
        step = self.result["first_named"].get(self.program.root)
        return None if step is None else int(step)


def programs() -> tuple[list[Program], list[Program]]:
    """Return all faulty programs and all working ones that can be run here, in order."""
    faulty, working = [], []
    for file in sorted((ZOO / "faulty").glob("*/expect.toml")):
        expect = tomllib.loads(file.read_text(encoding="utf-8"))
        folder, metric = file.parent, expect["metric"]
        codes = frozenset(expect["codes"])
        faulty.append(Program(folder / "faulty.py", folder.name, expect["root"], codes, expect["line"], metric))
        working.append(Program(folder / "fixed.py", folder.name, metric=metric))
    healthy = sorted(path for path in (ZOO / "healthy").glob("*.py") if path.stem != "__init__")
    if has_extra():
        healthy += sorted((ZOO / "healthy" / "architectures").glob("*.py"))
    return faulty, [*working, *(Program(path, path.stem) for path in healthy)]


def has_extra() -> bool:
    """Tell whether the programs that need the optional package can be run."""
    return importlib.util.find_spec(EXTRA) is not None


def frozen() -> set[str]:
    """Return the names of the programs that no threshold may be set by."""
    file = ZOO / "frozen.txt"
    return set(file.read_text(encoding="utf-8").split()) if file.exists() else set()


def watch(program: Program) -> Seen:
    """Run a program under watch in a process of its own."""
    command = [sys.executable, "-m", "zoo.watch_one", str(program.path), program.metric]
    done = subprocess.run(
        command,
        cwd=ZOO.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{program.path} ended with {done.returncode}:\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["exit_code"] or result["internal_error"]:
        raise RuntimeError(f"{program.path}: exit code {result['exit_code']}, {result['internal_error']}")
    return Seen(program, result)


def rates(faulty: list[Seen], working: list[Seen]) -> str:
    """Return the row of rates of some programs."""
    n, alarms = len(faulty), [seen for seen in working if seen.alarms]
    claims = sum(seen.named_first for seen in faulty)
    wrong = sum(bool(seen.alarms) and not seen.named_first for seen in faulty) + len(alarms)
    steps = [s.first_step for s in faulty if s.first_step is not None and (s.program.root or "")[0] in EARLY_GROUPS]
    cells = [
        str(n),
        _share(sum(seen.found for seen in faulty), n),
        _share(claims, n),
        _share(sum(seen.pointed for seen in faulty), n),
        _share(claims, claims + wrong),
        str(len(working)),
        f"{sum(len(seen.alarms) for seen in alarms)}",
        f"{50 * sum(len(seen.alarms) for seen in alarms) / len(working):.1f}" if working else "–",
        f"{statistics.median(steps):.0f}" if steps else "–",
    ]
    return " | ".join(cells)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


HEADER = (
    "| faults | found | root first | right line | precision | working programs | false alarms | a fifty runs "
    "| named by step (median of I, L, T) |\n|" + "---:|" * 10
)


def report(faulty: list[Seen], working: list[Seen]) -> str:
    """Return the tables: overall, each half, each rule, and every program that is not as it should be."""
    kept = frozen()
    lines = ["| programs " + HEADER.replace("\n|", "\n|---|")]
    for title, wanted in (("tuned", False), ("frozen", True)):
        parts = [[seen for seen in group if (seen.program.name in kept) is wanted] for group in (faulty, working)]
        if parts[0] or parts[1]:
            lines.append(f"| {title} | {rates(*parts)} |")
    lines.append(f"| all | {rates(faulty, working)} |")
    lines += ["", "| rule | faults | found | root first | right line | named by step (median) | false alarms |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    alarms = [alarm[:4] for seen in working for alarm in seen.alarms]
    for code in sorted({seen.program.root or "" for seen in faulty} | set(alarms)):
        own = [seen for seen in faulty if seen.program.root == code]
        steps = [seen.first_step for seen in own if seen.first_step is not None]
        counts = [len(own), *(sum(getattr(s, what) for s in own) for what in ("found", "named_first", "pointed"))]
        when = f"{statistics.median(steps):.0f}" if steps else "–"
        lines.append(f"| {code} | {' | '.join(map(str, counts))} | {when} | {alarms.count(code)} |")
    return "\n".join([*lines, "", *_exceptions(faulty, working)])


def _exceptions(faulty: Iterable[Seen], working: Iterable[Seen]) -> Iterable[str]:
    for seen in faulty:
        if not (seen.found and seen.pointed):
            first = seen.result["roots"][0] if seen.result["roots"] else {"code": "nothing", "line": "–"}
            missing = ", ".join(sorted(seen.program.codes - set(seen.result["codes"]))) or "none"
            yield (
                f"- {seen.program.name}: expected {seen.program.root} at line {seen.program.line}, "
                f"named {first['code']} at {first['line']}; missing {missing}"
            )
    for seen in working:
        yield from (f"- {seen.program.path.parent.name}/{seen.program.path.name}: {alarm}" for alarm in seen.alarms)


def main(arguments: list[str] | None = None) -> int:
    """Watch the programs and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m zoo.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SLUG", help="programs to run (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="programs to run at a time (default: 2)")
    parser.add_argument("--half", choices=["tuned", "frozen", "all"], default="all")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="each N-th program alone, from the K-th on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every result")
    options = parser.parse_args(arguments)
    part, parts = map(int, options.part.split("/"))
    faulty, working = programs()
    if not has_extra():
        sys.stderr.write(f"healthy/architectures is left out: it needs {EXTRA} (pip install 'unstuck[third-party]')\n")
    known = {program.name for program in [*faulty, *working]}
    if unknown := sorted(set(options.names) - known):
        parser.error(f"no such program: {', '.join(unknown)}")
    kept = frozen()

    def wanted(group: list[Program]) -> list[Program]:
        group = group[part - 1 :: parts]
        if options.half != "all":
            group = [program for program in group if (program.name in kept) is (options.half == "frozen")]
        return [program for program in group if not options.names or program.name in options.names]

    with ThreadPoolExecutor(options.jobs) as pool:
        seen_faulty, seen_working = (list(pool.map(watch, wanted(group))) for group in (faulty, working))
    sys.stdout.write(report(seen_faulty, seen_working) + "\n")
    if options.json:
        data = [
            {"program": str(s.program.path), "root": s.program.root, **s.result} for s in seen_faulty + seen_working
        ]
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
