"""What the results of the zoo's programs amount to, as markdown tables."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.collection import Program, frozen

EARLY = 50  # step; faults of initialisation, loss and loop should be named by then
EARLY_GROUPS = ("I", "L", "T")


class Seen(NamedTuple):
    """A program and what was found."""

    program: Program
    result: dict[str, Any]

    @property
    def severe(self) -> list[dict[str, Any]]:
        """The root findings of warning or worse."""
        return [root for root in self.result["roots"] if root["severity"] != "info"]

    @property
    def alarms(self) -> list[str]:
        """The root findings of warning or worse in words; on a working program each is a false alarm."""
        return [f"{root['code']} at line {root['line']}: {root['message']}" for root in self.severe]

    @property
    def leader(self) -> str | None:
        """The code that leads the report as warning or worse."""
        return self.severe[0]["code"] if self.severe else None

    @property
    def missing(self) -> list[str]:
        """The expected codes that are not among the findings."""
        return sorted(self.program.codes - set(self.result["codes"]))

    @property
    def found(self) -> bool:
        """Whether all expected codes are among the findings."""
        return not self.missing

    @property
    def findable(self) -> bool:
        """Whether the rule of the expected root could judge the run."""
        return self.program.root not in self.result["not_checked"]

    @property
    def found_what_could_be(self) -> bool:
        """Whether all expected codes whose rules could judge are among the findings."""
        return self.findable and all(code in self.result["not_checked"] for code in self.missing)

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
        step: int | None = self.result["first_named"]
        return step


Split = tuple[str, list[Seen], list[Seen]]
"""A part of the collection: its title, its faulty and its working programs."""


def half(seen: Seen) -> str:
    """Return the half of the collection that a program belongs to."""
    return "frozen" if seen.program.name in frozen() else "tuned"


def splits(faulty: Sequence[Seen], working: Sequence[Seen]) -> list[Split]:
    """Return each half that has programs, and all of them."""
    kept = frozen()
    rows: list[Split] = []
    for title, wanted in (("tuned", False), ("frozen", True)):
        parts = [[seen for seen in group if (seen.program.name in kept) is wanted] for group in (faulty, working)]
        if parts[0] or parts[1]:
            rows.append((title, parts[0], parts[1]))
    return [*rows, ("all", list(faulty), list(working))]


def share(part: int, whole: int) -> str:
    """Return a share in percent."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def precision(everything: Iterable[Seen], code: str | None = None) -> tuple[int, int]:
    """Return how often a rule (any, by default) rightly led a report as warning or worse, and how often it led one."""
    led = [seen for seen in everything if seen.leader is not None and code in (None, seen.leader)]
    return sum(seen.leader == seen.program.root for seen in led), len(led)


def median_step(faulty: Iterable[Seen]) -> str:
    """Return the median step at which the root was first named first; a fault never named counts as endlessly late."""
    steps = [math.inf if seen.first_step is None else seen.first_step for seen in faulty]
    median = statistics.median(steps) if steps else math.inf
    return f"{median:.0f}" if math.isfinite(median) else "–"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> str:
    """Return a markdown table whose columns, but the first `words`, are numbers."""
    under = f"|{'---|' * words}{'---:|' * (len(titles) - words)}"
    head, *body = (f"| {' | '.join(map(str, cells))} |" for cells in [titles, *rows])
    return "\n".join([head, under, *body])


OVERALL = (
    "programs",
    "faults",
    "recall",
    "root first",
    "right line",
    "precision",
    "working programs",
    "false alarms",
    "a run",
    "named by step (median of I, L, T)",
)


def rates(faulty: Sequence[Seen], working: Sequence[Seen]) -> list[str]:
    """Return the numbers of some programs, as in the columns of `OVERALL` after the first."""
    n, alarms = len(faulty), sum(len(seen.alarms) for seen in working)
    return [
        str(n),
        share(sum(seen.found for seen in faulty), n),
        share(sum(seen.named_first for seen in faulty), n),
        share(sum(seen.pointed for seen in faulty), n),
        share(*precision([*faulty, *working])),
        str(len(working)),
        str(alarms),
        f"{alarms / len(working):.3f}" if working else "–",
        median_step(early_faults(faulty)),
    ]


def early_faults(faulty: Iterable[Seen]) -> list[Seen]:
    """Return the faults of initialisation, loss and loop."""
    return [seen for seen in faulty if (seen.program.root or "").startswith(EARLY_GROUPS)]


def overall(faulty: Sequence[Seen], working: Sequence[Seen]) -> str:
    """Return the table of both halves and all, and how early the faults that should be named early are."""
    text = table(OVERALL, [(title, *rates(*group)) for title, *group in splits(faulty, working)])
    if early := early_faults(faulty):
        by_then = sum(seen.first_step is not None and seen.first_step <= EARLY for seen in early)
        text += (
            f"\n\nFaults of initialisation, loss and loop: {len(early)}; step at which the root was first named first: "
            f"{median_step(early)} (median; the aim is {EARLY} at most); {by_then} of them by step {EARLY}."
        )
    return text


BY_RULE = (
    "rule",
    "expected in",
    "recall",
    "root of",
    "root first",
    "right line",
    "precision",
    "named by step (median)",
    "false alarms",
)


def by_rule(faulty: Sequence[Seen], working: Sequence[Seen]) -> str:
    """Return the table of each rule that was expected or raised a false alarm."""
    alarms = [root["code"] for seen in working for root in seen.severe]
    rows = []
    for code in sorted({code for seen in faulty for code in seen.program.codes} | set(alarms)):
        expected = [seen for seen in faulty if code in seen.program.codes]
        own = [seen for seen in faulty if seen.program.root == code]
        right, led = precision([*faulty, *working], code)
        rows.append(
            (
                code,
                len(expected),
                share(sum(code in seen.result["codes"] for seen in expected), len(expected)),
                len(own),
                sum(seen.named_first for seen in own),
                sum(seen.pointed for seen in own),
                f"{share(right, led)} of {led}" if led else "–",
                median_step(own),
                alarms.count(code),
            )
        )
    return table(BY_RULE, rows)


def each_fault(faulty: Iterable[Seen]) -> str:
    """Return the table of each faulty program."""
    answer = {True: "yes", False: "no"}
    rows = [
        (
            seen.program.name,
            seen.program.root,
            half(seen),
            "–" if seen.first_step is None else seen.first_step,
            answer[seen.found],
            answer[seen.named_first],
            answer[seen.pointed],
        )
        for seen in faulty
    ]
    titles = ("program", "root", "half", "named first by step", "found", "root first", "right line")
    return table(titles, rows, words=3)


def exceptions(faulty: Iterable[Seen], working: Iterable[Seen]) -> Iterator[str]:
    """Yield a line for each program that is not as it should be."""
    yield from (f"- {shortfall(seen)}" for seen in faulty if not (seen.found and seen.pointed))
    yield from false_alarms(working)


def false_alarms(working: Iterable[Seen]) -> Iterator[str]:
    """Yield a line for each false alarm."""
    for seen in working:
        yield from (f"- {seen.program.path.parent.name}/{seen.program.path.name}: {alarm}" for alarm in seen.alarms)


def shortfall(seen: Seen) -> str:
    """Say what was expected of a faulty program and what was found."""
    first = seen.result["roots"][0] if seen.result["roots"] else {"code": "nothing", "line": "–"}
    text = (
        f"{seen.program.name}: expected {seen.program.root} at line {seen.program.line}, "
        f"named {first['code']} at {first['line']}; missing {', '.join(seen.missing) or 'none'}"
    )
    lacking = [f"{code} needs {why}" for code, why in seen.result["not_checked"].items() if code in seen.missing]
    return "; ".join([text, *lacking])


def by_step(faulty: Sequence[Seen], working: Sequence[Seen], steps: int, whole: Mapping[str, int | None]) -> str:
    """Return what was found in runs ended after `steps` steps, and why the rest was not.

    A fault counts as findable when the rule of its root did not say that it lacked something; of such a program,
    the codes whose rules could judge are to be found. `whole` holds, by name, when a root was named in a run not ended.
    """
    rows = []
    for title, group, _ in splits(faulty, working):
        can = [seen for seen in group if seen.findable]
        parts = [sum(getattr(s, what) for s in can) for what in ("found_what_could_be", "named_first", "pointed")]
        rows.append((title, len(group), len(can), *(share(part, len(can)) for part in parts)))
    titles = ("programs", "faults", f"findable by step {steps}", "recall", "root first", "right line")
    not_findable = [seen for seen in faulty if not seen.findable]
    missed = [seen for seen in faulty if seen.findable and not (seen.found_what_could_be and seen.pointed)]
    text = [f"Of the faults findable by step {steps}:", "", table(titles, rows)]
    for title, group in (
        (f"Not findable by step {steps}:", not_findable),
        ("Findable, and not as it should be:", missed),
    ):
        if group:
            text += ["", title, "", *(f"- {shortfall(seen)}{_later(seen, steps, whole)}" for seen in group)]
    return "\n".join([*text, *_under("False alarms by then:", false_alarms(working))])


def _later(seen: Seen, steps: int, whole: Mapping[str, int | None]) -> str:
    step = whole.get(seen.program.name)
    return f"; in the whole run named first by step {step}" if step is not None and step >= steps else ""


def _under(title: str, lines: Iterable[str]) -> list[str]:
    listed = list(lines)
    return ["", title, "", *listed] if listed else []


def report(
    faulty: Sequence[Seen],
    working: Sequence[Seen],
    *,
    each: bool = False,
    steps: int | None = None,
    whole: Mapping[str, int | None] | None = None,
) -> str:
    """Return the tables: overall, each half, each rule, every program that is not as it should be, each fault.

    With `steps`, what was found by then stands in place of what is not as it should be.
    """
    blocks = [overall(faulty, working), by_rule(faulty, working)]
    if steps is None:
        blocks += ["\n".join(exceptions(faulty, working))]
    else:
        blocks += [by_step(faulty, working, steps, whole or {})]
    blocks += [each_fault(faulty)] if each else []
    return "\n\n".join(block for block in blocks if block)
