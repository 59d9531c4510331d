"""Reports made by hand."""

from __future__ import annotations

from rules.helpers import TraceBuilder
from unstuck.findings import Finding, Severity
from unstuck.fixes.fix import Applicability, Fix
from unstuck.report import NotChecked, Report, RunInfo
from unstuck.rules.causes import causal_order, group
from unstuck.trace import Location, Trace


def finding(code: str = "A001", name: str = "saturated", **fields) -> Finding:
    known = {
        "severity": Severity.WARNING,
        "site": "tanh",
        "location": Location("/home/user/train.py", 3),
        "steps": (0, 9),
        "measured": 0.6,
        "threshold": 0.3,
        "unit": "1",
        "message": "60 % of the outputs are saturated",
    }
    return Finding(code, name, **{**known, **fields})


def fix(**fields) -> Fix:
    known = {
        "name": "rescale-weights",
        "code": "I002",
        "applicability": Applicability.UNSAFE,
        "site": "W1, b1",
        "location": Location("/home/user/train.py", 3),
        "statistic": "pre-activation std",
        "unit": "1",
        "before": 5.4321,
        "after": 1.0,
        "snippet": "W1.data *= 0.184\nb1.data *= 0.184",
    }
    return Fix(**{**known, **fields})


def report(
    *findings: Finding,
    trace: Trace | None = None,
    not_checked: tuple[NotChecked, ...] = (),
    fixes: tuple[Fix, ...] = (),
    withheld: tuple[str, ...] = (),
    **run: object,
) -> Report:
    """A report of ten steps of train.py."""
    trace = TraceBuilder(range(10)).trace if trace is None else trace
    info = RunInfo(**{"title": "train.py", "steps": 10, **run})
    ordered = tuple(sorted(findings, key=causal_order))
    return Report(ordered, tuple(group(ordered)), not_checked, trace, fixes, withheld, info)


def lines(made: Report, **options) -> list[str]:
    """The lines of a report as text."""
    return made.render("text", **options).splitlines()
