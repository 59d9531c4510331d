"""Write `zoo/RESULTS.md` from `zoo/results.json`, so that no number in it is typed by hand.

    python -m zoo.results                                   write the tables anew from the numbers
    python -m zoo.results --measure [--jobs 2] [SLUG ...]   measure first, all programs or those named, then write them

Measuring means: every program under watch (`zoo.evaluate`), again ended after 100 updates (`zoo.evaluate --steps 100`),
every pair without watching (`zoo.check`), and every program with all repairs allowed (`zoo.evaluate --fix`). The
numbers are saved after each of the four; those of programs not measured stay, and those of programs that are no more
are left out. `--only` measures some of the four. What stands in RESULTS.md above the mark is written by hand.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from zoo import check, repairs
from zoo.collection import EXTRA, ZOO, Program, chosen, frozen, has_extra, programs
from zoo.evaluate import measure
from zoo.processes import INTERRUPTED, at_least_one, failed
from zoo.tables import Seen, report

STEPS = 100  # what is findable by then must be found by then
ROOT = ZOO.parent
NUMBERS = ZOO / "results.json"
PAGE = ZOO / "RESULTS.md"
MARK = "<!-- from here on: python -m zoo.results -->\n"
KINDS = ("whole", "early", "pairs", "fixes")
MANY = 20  # that are named no more one by one
Numbers = dict[str, Any]


def compact(seen: Seen) -> Numbers:
    """Return what the tables need of a program."""
    program, result = seen.program, seen.result
    roots = [{what: root[what] for what in ("code", "line", "severity")} for root in result["roots"]]
    for short, root in zip(roots, result["roots"], strict=True):
        if not program.root and root["severity"] != "info":
            short["message"] = root["message"]
    metric = {} if result["metric"] is None else {"metric": result["metric"]}
    lacking = {code: why for code, why in result["not_checked"].items() if code in program.codes}
    return {
        "codes": result["codes"],
        "roots": roots,
        **({"first_named": result["first_named"], "not_checked": lacking} if program.root else {}),
        "seconds": round(result["seconds"], 2),
        **metric,
    }


def read_back(numbers: Numbers, group: Iterable[Program]) -> list[Seen]:
    """Return those programs of a collection that there are numbers for, with what was found."""
    empty: Numbers = {"first_named": None, "not_checked": {}, "metric": None}
    return [Seen(program, {**empty, **numbers[program.key]}) for program in group if program.key in numbers]


def pair_back(slug: str, numbers: Numbers) -> check.Result:
    """Return a pair's result; losses that are not finite stand as text."""
    return check.Result(
        slug, numbers["root"], float(numbers["faulty"]), float(numbers["fixed"]), numbers["must_be_worse"]
    )


def as_numbers(pair: check.Result) -> Numbers:
    """Return what the table needs of a pair."""
    losses = {"faulty": f"{pair.faulty:.6g}", "fixed": f"{pair.fixed:.6g}"}
    return {"root": pair.root, **losses, "must_be_worse": pair.must_be_worse}


def made_with() -> Numbers:
    """Return what the numbers may depend on."""
    return {"torch": version("torch"), "python": platform.python_version(), "cpus": os.cpu_count()}


def measure_kind(kind: str, names: Sequence[str], jobs: int) -> tuple[set[str], Numbers, list[str]]:
    """Measure one of `KINDS` for the programs named (all, where none is).

    Returns the keys of what was tried, the numbers by key, and what went wrong with the others.
    """
    if kind == "pairs":
        slugs = [slug for slug in check.slugs() if not names or slug in names]
        results, failures = check.measure(slugs, jobs)
        return set(slugs), {result.slug: as_numbers(result) for result in results}, failures
    faulty, working = (chosen(group, names=names) for group in programs())
    if kind == "fixes":
        done, alone, failures = repairs.measure(faulty, working, jobs)
        by_name = {program.name: program.key for program in faulty}
        new = {by_name[result.name]: repairs.as_numbers(result) for result in done}
        new |= {result.key: repairs.as_numbers(result) for result in alone}
        return {program.key for program in [*faulty, *working]}, new, failures
    seen_faulty, seen_working, failures = measure(faulty, working, jobs, STEPS if kind == "early" else None)
    tried = {program.key for program in [*faulty, *working]}
    return tried, {seen.program.key: compact(seen) for seen in [*seen_faulty, *seen_working]}, failures


def merged(old: Numbers, kind: str, tried: set[str], new: Numbers) -> Numbers:
    """Return all numbers with new ones of a kind in place of what was tried, without programs that are no more."""
    both = {**{key: value for key, value in old.get(kind, {}).items() if key not in tried}, **new}
    here = {key: both[key] for key in sorted(both) if (check.FAULTY / key if kind == "pairs" else ROOT / key).exists()}
    return {**old, "made_with": made_with(), kind: here}


def dumped(numbers: Numbers) -> str:
    """Return the numbers as JSON, one program a line."""
    blocks = [f'"made_with": {json.dumps(numbers["made_with"])}']
    for kind in [kind for kind in KINDS if kind in numbers]:
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in numbers[kind].items()]
        blocks.append(f'"{kind}": {{\n' + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def written(numbers: Numbers) -> str:
    """Return the part of the page that is made from the numbers: a section for each kind that was measured."""
    groups = programs(all_there_are=True)
    whole, early = ([read_back(numbers.get(kind, {}), group) for group in groups] for kind in ("whole", "early"))
    names = {program.name for group in groups for program in group}
    with_ = numbers["made_with"]
    absent = [kind for kind in KINDS if kind not in numbers]
    parts = [
        f"Measured with torch {with_['torch']} and Python {with_['python']} on {with_['cpus']} CPUs. `frozen.txt` "
        f"lists {len(frozen() & names)} of the {len(names)} names, chosen by their hash. The columns are explained in "
        f"[README.md](README.md#evaluating-the-rules).{f' Not measured yet: {_listed(absent)}.' if absent else ''}",
        f"## Whole runs\n\n`python -m zoo.evaluate --each`, {_counted(numbers, 'whole')}",
        report(*whole, each=True),
    ]
    if "early" in numbers:
        parts += [
            f"## The first {STEPS} steps\n\n`python -m zoo.evaluate --steps {STEPS}`: each run is ended after {STEPS} "
            f"updates, as `unstuck run --steps {STEPS}` does it; {_counted(numbers, 'early')}",
            report(*early, steps=STEPS, whole={seen.program.name: seen.first_step for seen in whole[0]}),
        ]
    if "pairs" in numbers:
        pairs = [pair_back(slug, pair) for slug, pair in numbers["pairs"].items()]
        parts += [
            f"## What each fault costs\n\n`python -m zoo.check`: both programs of each of {len(pairs)} pairs, not "
            f"watched; worse is a final metric more than {100 * check.MARGIN:.0f} % above the twin's.",
            check.table(pairs),
        ]
    if "fixes" in numbers:
        parts += [
            "## Repairs\n\n`python -m zoo.evaluate --fix`: each program with all repairs allowed, "
            f"{_counted(numbers, 'fixes')} A fault offers a fix when its root has a patch or its finding names a "
            "remedy; it is repaired when the mended run was checked for that again, without finding it, and its final "
            f"metric has closed at least {100 * repairs.CLOSED:.0f} % of the gap to the twin's. Faults without a gap "
            "cost nothing in this metric: the share that is repaired is one of the others. A rule about the start of "
            "training cannot judge a run again that was mended later.",
            repairs.report(*repairs.read_back(numbers["fixes"])),
        ]
    return "\n\n".join(parts) + "\n"


def _counted(numbers: Numbers, kind: str) -> str:
    """Say how many programs were measured, and which were not."""
    absent = [p.key for group in programs(all_there_are=True) for p in group if p.key not in numbers[kind]]
    return f"{len(numbers[kind])} programs.{f' Not measured yet: {_listed(absent)}.' if absent else ''}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < MANY else f"{len(names)} others"


def page(text: str, numbers: Numbers) -> str:
    """Return the page with everything below the mark written anew."""
    by_hand, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f"RESULTS.md has no line {MARK.strip()}")
    return f"{by_hand}{MARK}\n{written(numbers)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure where asked to, and write the page; return the exit code, 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m zoo.results", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SLUG", help="programs to measure (default: all)")
    parser.add_argument("--measure", action="store_true", help="run the programs first")
    parser.add_argument("--only", choices=KINDS, action="append", help="measure this alone; may be given twice")
    parser.add_argument(
        "--jobs", type=at_least_one, default=2, metavar="N", help="programs to run at a time (default: 2)"
    )
    options = parser.parse_args(arguments)
    if (options.names or options.only) and not options.measure:
        parser.error("SLUG and --only say what to measure: add --measure")
    if unknown := sorted(set(options.names) - {program.name for group in programs() for program in group}):
        parser.error(f"no such program: {', '.join(unknown)}")
    if options.measure and not has_extra():
        sys.stderr.write(f"healthy/architectures is left out: it needs {EXTRA} (pip install 'unstuck[third-party]')\n")
    numbers: Numbers = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    failures: list[str] = []
    for kind in (options.only or KINDS) if options.measure else ():
        try:
            tried, new, wrong = measure_kind(kind, options.names, options.jobs)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            return INTERRUPTED
        failures += wrong
        numbers = merged(numbers, kind, tried, new)
        NUMBERS.write_text(dumped(numbers), encoding="utf-8")
        sys.stderr.write(f"{kind}: {len(new)} measured\n")
    if "whole" not in numbers:
        sys.stderr.write("no whole run is measured yet, so RESULTS.md stays as it is\n")
        return 1
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    if failures:
        sys.stdout.write(failed(failures) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
