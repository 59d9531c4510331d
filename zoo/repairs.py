"""How well the zoo's faults are repaired, and that working programs are left alone: measuring, and the tables.

A fault *offers a fix* when its root has a patch, or its finding names a remedy. It is *repaired* when the finding is
gone, which the mended run must have checked, and the final metric has closed at least 80 % of the gap between the
faulty program and its fixed twin. Where there is no gap, as the fault costs nothing, nothing can be repaired by it.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.check import MARGIN
from zoo.collection import ZOO, Program, frozen
from zoo.processes import Processes, ProgramError, each

TIME_LIMIT = 300  # seconds per run
CLOSED = 0.8  # of the gap
METRICS = ("faulty", "repaired", "fixed", "noise")
ALTERNATIVES = ("kaiming", "lsuv")
OTHER_SEEDS = (1, 2)  # added to the program's own
INITIALISATION = ("I", "L001", "L003", "A001", "G001", "G002")
"""Roots, by code or group, that an initialisation may mend: there the alternatives are measured too."""


class Repair(NamedTuple):
    """A faulty program and what mending it gave; metrics that are not finite are infinite.

    `gone` says that its rule found nothing any more, `judged` that it could be checked in the mended run at all: a rule
    about the start of training cannot where the mending came after it. `noise` is the range of the faulty program's
    metric over three seeds, measured where the mended program ends worse at all.
    """

    name: str
    root: str
    faulty: float
    repaired: float
    fixed: float
    gone: bool
    offered: bool
    patched: bool
    fixes: tuple[str, ...]
    withheld: tuple[str, ...] = ()
    alternatives: dict[str, float] = {}  # noqa: RUF012  (a named tuple's default is never changed)
    judged: bool = True
    noise: float = 0.0

    def closed(self, metric: float) -> float | None:
        """Return the share of the gap that a metric closes; None where the fault costs nothing to begin with."""
        gap = self.faulty - self.fixed
        if not gap > MARGIN * abs(self.fixed):
            return None
        if math.isinf(gap):  # a run that broke: as good as the twin's is all of it
            return 1.0 if metric <= self.fixed + (1 - CLOSED) * abs(self.fixed) else 0.0
        return (self.faulty - metric) / gap

    @property
    def is_repaired(self) -> bool:
        """Whether the finding is gone and enough of the gap is closed; never where there is none."""
        share = self.closed(self.repaired)
        return self.gone and not self.is_worse and share is not None and share >= CLOSED

    @property
    def has_gap(self) -> bool:
        """Whether the fault costs anything that could be won back."""
        return self.closed(self.repaired) is not None

    @property
    def is_worse(self) -> bool:
        """Whether the mended program ends worse than the faulty one, by more than the noise between seeds."""
        return self.repaired - self.faulty > self.noise


def _number(text: str | None) -> float:
    value = math.inf if text is None else float(text)
    return value if math.isfinite(value) else math.inf


def _last_json(printed: str, label: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise ProgramError(f"{label} ended before it could be judged") from None
    if result["exit_code"] or result["internal_error"]:
        raise ProgramError(f"{label}: exit code {result['exit_code']}, {result['internal_error']}")
    return result


def fixed_run(program: Program, processes: Processes) -> dict[str, Any]:
    """Mend a program in a process of its own and return what came of it."""
    command = ["-m", "zoo.fix_one", str(program.path), "--metric", program.metric]
    command += ["--root", program.root] if program.root else []
    label = f"{program.key}, mended"
    return _last_json(processes.run(command, label=label, time_limit=4 * TIME_LIMIT, folder=ZOO.parent), label)


def plain_run(program: Program, processes: Processes, how: str | None = None, seed: int = 0) -> float:
    """Run a program without watching, or with another initialisation or seed, and return its final metric."""
    command = ["-m", "zoo.alternatives", str(program.path), "--how", how] if how else [str(program.path)]
    if seed:
        command = ["-m", "zoo.reseeded", str(program.path), "--by", str(seed)]
    label = ", ".join([program.key, *([how] if how else []), *([f"seed + {seed}"] if seed else [])])
    printed = processes.run(command, label=label, time_limit=TIME_LIMIT, folder=ZOO.parent)
    values = [line.split()[1] for line in printed.splitlines() if line.startswith(f"{program.metric} ")]
    if len(values) != 1:
        raise ProgramError(f"{label} printed {len(values)} lines '{program.metric} NUMBER', not one")
    return _number(values[0])


def repair(program: Program, processes: Processes) -> Repair:
    """Mend a faulty program, and run it and its twin as they are; one of initialisation with the alternatives too."""
    done = fixed_run(program, processes)
    root = program.root or ""
    judged = root not in done["not_checked"]
    metrics, others, noise = (0.0, 0.0), {}, 0.0
    if done["offered"]:
        twin = program._replace(path=program.path.with_name("fixed.py"))
        metrics = plain_run(program, processes), plain_run(twin, processes)
        if not done["patched"] and root.startswith(INITIALISATION):
            others = {how: plain_run(program, processes, how) for how in ALTERNATIVES}
        if _number(done["metric"]) > metrics[0]:
            seen = [metrics[0], *(plain_run(program, processes, seed=seed) for seed in OTHER_SEEDS)]
            noise = max(seen) - min(seen)
    return Repair(
        program.name,
        root,
        metrics[0],
        _number(done["metric"]),
        metrics[1],
        judged and root not in done["codes"],
        done["offered"],
        done["patched"],
        tuple(done["fixes"]),
        tuple(done["withheld"]),
        others,
        judged,
        noise,
    )


class LeftAlone(NamedTuple):
    """A working program (its key too) and what was done to it, or would have been: nothing, one hopes."""

    key: str
    name: str
    fixes: tuple[str, ...]
    proposed: tuple[str, ...]


def leave_alone(program: Program, processes: Processes) -> LeftAlone:
    """Run a working program with every repair allowed."""
    done = fixed_run(program, processes)
    return LeftAlone(program.key, program.name, tuple(done["fixes"]), tuple(done["proposed"]))


def measure(
    faulty: Sequence[Program], working: Sequence[Program], jobs: int
) -> tuple[list[Repair], list[LeftAlone], list[str]]:
    """Mend programs, `jobs` at a time; return what came of faulty and working ones, and what went wrong with others.

    Those that several processes train are left out: nothing is mended there.
    """

    def one(program: Program, processes: Processes) -> Repair | LeftAlone:
        return repair(program, processes) if program.root else leave_alone(program, processes)

    alone = [program for program in (*faulty, *working) if program.processes == 1]
    seen, failures = each(one, alone, jobs)
    repairs = [result for result in seen if isinstance(result, Repair)]
    return repairs, [result for result in seen if isinstance(result, LeftAlone)], failures


def as_data(result: Repair | LeftAlone) -> dict[str, Any]:
    """Return everything known of a program, for JSON: metrics that are not finite are null."""
    data = {**result._asdict(), "half": "frozen" if result.name in frozen() else "tuned"}
    if isinstance(result, Repair):
        data |= {what: getattr(result, what) for what in ("is_repaired", "is_worse", "has_gap")}
        data["alternatives"] = {how: _finite(metric) for how, metric in result.alternatives.items()}
    return {key: _finite(value) for key, value in data.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_numbers(result: Repair | LeftAlone) -> dict[str, Any]:
    """Return a result as plain data; metrics that are not finite as text."""
    data = result._asdict()
    for name in METRICS:
        data |= {name: f"{data[name]:.6g}"} if name in data else {}
    if "alternatives" in data:
        data["alternatives"] = {how: f"{metric:.6g}" for how, metric in data["alternatives"].items()}
    return data


def read_back(numbers: Mapping[str, Mapping[str, Any]]) -> tuple[list[Repair], list[LeftAlone]]:
    """Return what `as_numbers` made plain data of."""
    done, alone = [], []
    for data in numbers.values():
        if "root" not in data:
            alone.append(LeftAlone(data["key"], data["name"], tuple(data["fixes"]), tuple(data["proposed"])))
            continue
        metrics = {name: float(data.get(name, 0.0)) for name in METRICS}
        others = {how: float(metric) for how, metric in data["alternatives"].items()}
        lists = {name: tuple(data[name]) for name in ("fixes", "withheld")}
        done.append(Repair(**{**data, **metrics, **lists, "alternatives": others}))
    return done, alone


# -- tables ------------------------------------------------------------------------------------------------------------


def report(repairs: Sequence[Repair], alone: Sequence[LeftAlone]) -> str:
    """Return the tables: overall, by remedy, each fault, working programs, and the alternatives."""
    offered = [repair for repair in repairs if repair.offered]
    kept = frozen()
    groups: dict[str, Callable[[Repair], bool]] = {
        "tuned": lambda repair: repair.name not in kept,
        "frozen": lambda repair: repair.name in kept,
        "by a patch": lambda repair: repair.patched,
        "in flight": lambda repair: not repair.patched,
        "all": lambda _: True,
    }
    lines = [
        "| faults | offer a fix | no gap | repaired | finding gone | not judged again | gap closed (median) | "
        "made worse |",
        "|---|" + "---:|" * 7,
    ]
    for title, wanted in groups.items():
        lines.append(f"| {title} | {_rates([repair for repair in offered if wanted(repair)])} |")
    lines += ["", "| fix | faults | no gap | repaired | not judged again | made worse |", "|---|" + "---:|" * 5]
    for name in sorted({name for repair in offered for name in repair.fixes}):
        own = [repair for repair in offered if name in repair.fixes]
        lines.append(f"| {name} | {' | '.join(map(str, _counts(own)))} |")
    lines += ["", _each(offered)]
    touched = [program for program in alone if program.fixes or program.proposed]
    if alone:
        lines += ["", f"Of {len(alone)} working programs, {len(touched)} were offered or given a fix."]
        lines += [f"- {p.key}: {', '.join([*p.fixes, *p.proposed])}" for p in touched]
    compared = [repair for repair in offered if repair.alternatives]
    return "\n".join([*lines, *(["", _alternatives(compared)] if compared else [])])


def _counts(repairs: Sequence[Repair]) -> tuple[int, ...]:
    """Return how many there are, and how many have no gap, are repaired, were not judged again, were made worse."""
    seen = [(not repair.has_gap, repair.is_repaired, not repair.judged, repair.is_worse) for repair in repairs]
    return len(seen), *(sum(what[number] for what in seen) for number in range(4))


def _rates(repairs: Sequence[Repair]) -> str:
    n, no_gap, repaired, not_judged, worse = _counts(repairs)
    shares = [share for repair in repairs if (share := repair.closed(repair.repaired)) is not None]
    cells = [
        str(n),
        str(no_gap),
        _percent(repaired, n - no_gap),
        _percent(sum(repair.gone for repair in repairs), n),
        str(not_judged),
        f"{100 * statistics.median(shares):.0f} %" if shares else "–",
        str(worse),
    ]
    return " | ".join(cells)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _each(repairs: Iterable[Repair]) -> str:
    lines = ["| program | root | fix | faulty | mended | twin | gap closed | finding gone | repaired |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---|---|")
    for r in sorted(repairs, key=lambda repair: (repair.root, repair.name)):
        what = ", ".join(r.fixes) or f"none ({'; '.join(r.withheld) or 'nothing was tried'})"
        numbers = " | ".join(_metric(value) for value in (r.faulty, r.repaired, r.fixed))
        verdict = "yes" if r.is_repaired else "no" if r.has_gap else "–"
        gone = "yes" if r.gone else "no" if r.judged else "not checked"
        lines.append(f"| {r.name} | {r.root} | {what} | {numbers} | {_share(r, r.repaired)} | {gone} | {verdict} |")
    return "\n".join(lines)


def _alternatives(repairs: Sequence[Repair]) -> str:
    ways = ("unstuck", *ALTERNATIVES)
    lines = ["Faults of initialisation, final metric (share of the gap closed) with other ways to mend them:", ""]
    lines += [f"| program | root | faulty | twin | {' | '.join(ways)} |", "|---|---|" + "---:|" * (2 + len(ways))]
    for r in repairs:
        values = [r.repaired, *(r.alternatives[how] for how in ALTERNATIVES)]
        cells = " | ".join(f"{_metric(value)} ({_share(r, value)})" for value in values)
        lines.append(f"| {r.name} | {r.root} | {_metric(r.faulty)} | {_metric(r.fixed)} | {cells} |")
    counts = []
    for how in ways:
        metrics = [(r, r.repaired if how == "unstuck" else r.alternatives[how]) for r in repairs]
        shares = [share for r, metric in metrics if (share := r.closed(metric)) is not None]
        counts.append(f"{sum(share >= CLOSED for share in shares)} of {len(shares)}")
    lines.append(f"| at least {100 * CLOSED:.0f} % closed | | | | {' | '.join(counts)} |")
    return "\n".join(lines)


def _metric(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def _share(repair: Repair, metric: float) -> str:
    share = repair.closed(metric)
    return "no gap" if share is None else f"{100 * max(share, -9.99):.0f} %"
