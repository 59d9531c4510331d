"""The terminal's rendering: verdict, root causes with lines and numbers, what was mended, what was not checked."""

from __future__ import annotations

import io
import linecache
import os
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from unstuck.findings import Finding, Severity
from unstuck.report.report import AppliedFix, Report, recent_loss, shared, starting_loss
from unstuck.report.watching import budget_warning, cost_line
from unstuck.rules.causes import Cause
from unstuck.trace import Location

MARKS = {Severity.ERROR: ("✗", "bold red"), Severity.WARNING: ("!", "bold yellow"), Severity.INFO: ("i", "bold cyan")}

MOST_ALSO = 6  # further places of one fault that are named
MOST_NEEDS = 3  # things that rules lacked and that are listed unasked


def render(report: Report, *, width: int = 100, color: bool = False, verbose: bool = False) -> str:
    """Return the report as text of at most `width` columns, with ANSI colours if asked.

    `verbose` says of each rule that could not judge what it lacked, however many there are.
    """
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        no_color=not color,
        legacy_windows=False,
    )
    console.print(verdict(report), soft_wrap=True)
    for cause in report.causes:
        _print_cause(console, cause)
    _print_fixes(console, report)
    _print_not_checked(console, report, verbose)
    _print_silenced(console, report)
    _print_run(console, report)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def verdict(report: Report) -> Text:
    """Return the first line: what the whole comes to."""
    facts = report.trace.facts
    if not facts.backward_calls and not report.causes:
        return Text(f"unstuck: no backward pass was seen in {report.run.title}: nothing to judge", "bold yellow")
    roots = [cause for cause in report.causes if cause.root.severity > Severity.INFO]
    steps = f"{report.run.steps:,} step{'s' if report.run.steps != 1 else ''} of {report.run.title}"
    steps = report.run.title if report.run.probe else steps
    if not roots:
        return Text(f"unstuck: no fault found in {steps}", "bold green")
    codes = ", ".join(dict.fromkeys(cause.root.code for cause in roots))
    plural = "s" if len(roots) != 1 else ""
    return Text(f"unstuck: {len(roots)} root cause{plural} ({codes}) in {steps}", "bold red")


def place(location: Location | None) -> str:
    """Return "file:line", the file relative to the current folder where that is shorter."""
    if location is None:
        return ""
    file = location.file
    if os.path.isabs(file):
        try:
            file = min(file, os.path.relpath(file), key=len)
        except ValueError:  # another drive
            file = str(Path(file))
    return f"{file}:{location.line}"


def source_line(location: Location | None) -> str:
    """Return the user's line of code, stripped; "" when it cannot be read."""
    if location is None:
        return ""
    return linecache.getline(location.file, location.line).strip()


def _print_cause(console: Console, cause: Cause) -> None:
    finding = cause.root
    mark, style = MARKS[finding.severity]
    head = Text(f"\n{mark} {finding.code} {finding.name}", style)
    where = place(finding.location)
    head.append(f"  {where}" if where else f"  {finding.site}", "bold")
    console.print(head, soft_wrap=True)
    _indented(console, Text(finding.message))
    line = source_line(finding.location)
    if line:
        _indented(console, Text(f"│ {line}", "dim"))
    _also(console, cause.also)
    if cause.symptoms:
        names = ", ".join(f"{name}{f' ×{n}' if n > 1 else ''}" for name, n in shared(cause.symptoms))
        _indented(console, Text(f"explains {names}:", "italic"))
        for symptom in cause.symptoms:
            _indented(console, _symptom(symptom), by=4)
    if finding.fixes:
        _indented(console, Text(f"remedy: {', '.join(finding.fixes)} (unstuck rule {finding.code})", "green"))


def _also(console: Console, others: tuple[Finding, ...]) -> None:
    if others:
        places = [f"{f.site} ({f.measured:.3g}{'' if f.unit == '1' else ' ' + f.unit})" for f in others[:MOST_ALSO]]
        more = f" and {len(others) - MOST_ALSO} more" if len(others) > MOST_ALSO else ""
        _indented(console, Text(f"also at {', '.join(places)}{more}"))


def _symptom(finding: Finding) -> Text:
    where = place(finding.location)
    return Text(f"{finding.code} {where + ': ' if where else ''}{finding.message}")


def _indented(console: Console, text: Text, by: int = 2) -> None:
    console.print(Padding(text, (0, 0, 0, by)))


def _print_fixes(console: Console, report: Report) -> None:
    groups = {
        "mended before the first step:": [fix for fix in report.fixes if fix.kept and not fix.step],
        "mended while it trained:": [fix for fix in report.fixes if fix.kept and fix.step],
        "tried, and put back:": [fix for fix in report.fixes if not fix.kept],
    }
    for title, fixes in groups.items():
        if fixes:
            console.print(Text(f"\n{title}", "bold green" if fixes[0].kept else "bold yellow"))
        for fix in fixes:
            _indented(console, Text(f"{fix.code} {fix_line(fix)}"))
            if fix.proof is not None:
                _indented(console, Text(str(fix.proof)), by=6)
            for line in (fix.snippet if fix.kept else fix.why).splitlines():
                _indented(console, Text(line, "dim"), by=6)
    for text in report.withheld:
        console.print(Text(f"\nnot mended: {text}", "yellow"), soft_wrap=True)


def fix_line(fix: AppliedFix) -> str:
    """Return what a fix did: its name, where, when, and the statistic before and after."""
    unit = "" if fix.unit == "1" else f" {fix.unit}"
    where = f" ({place(fix.location)})" if fix.location else ""
    when = f" after step {fix.step}" if fix.step else ""
    after = "none" if fix.after is None else f"{fix.after:.4g}{unit}"
    return f"{fix.name}: {fix.site}{where}{when}: {fix.statistic} {fix.before:.4g} → {after}"


def _print_not_checked(console: Console, report: Report, verbose: bool) -> None:
    if not report.not_checked or not report.trace.facts.backward_calls:
        return
    by_need: dict[str, list[str]] = {}
    for rule in report.not_checked:
        by_need.setdefault(rule.lacking, []).append(rule.code)
    if not verbose and len(by_need) > MOST_NEEDS:
        codes = ", ".join(_ranges([rule.code for rule in report.not_checked]))
        text = (
            f"\n{len(report.not_checked)} rules not checked, for what they need was not there (-v says what): {codes}"
        )
        console.print(Text(text, "dim"))
        return
    console.print(Text("\nnot checked:", "dim"))
    names = {rule.code: rule.name for rule in report.not_checked}
    for lacking, codes_of in by_need.items():
        alone = len(codes_of) == 1
        who = f"{codes_of[0]} {names[codes_of[0]]}: needs" if alone else f"{', '.join(_ranges(codes_of))}: need"
        _indented(console, Text(f"{who} {lacking}", "dim"))


def _ranges(codes: list[str]) -> list[str]:
    """Return codes with runs of three and more as one ("D001–D004")."""
    runs: list[list[str]] = []
    for code in codes:
        last = runs[-1][-1] if runs else ""
        if last[:1] == code[0] and int(code[1:]) == int(last[1:]) + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    return [part for run in runs for part in ([f"{run[0]}–{run[-1]}"] if len(run) > 2 else run)]


def _print_silenced(console: Console, report: Report) -> None:
    if report.silenced:
        codes = ", ".join(f"{code} ×{n}" if n > 1 else code for code, n in shared(report.silenced))
        console.print(Text(f"\nsilenced by comments or settings: {codes}", "dim"))


def _print_run(console: Console, report: Report) -> None:
    trace, run = report.trace, report.run
    if trace.facts.internal_error:
        console.print(Text(f"\nwatching ended early by an internal error: {trace.facts.internal_error}", "red"))
    if not trace.facts.backward_calls:
        return
    start, baseline = starting_loss(trace)
    recent = recent_loss(trace)
    parts = []
    if start is not None:
        parts.append(f"loss {start:.4f} at step 0" + (f" (baseline {baseline:.4f})" if baseline is not None else ""))
    if recent is not None and run.steps > 1:
        parts.append(f"{recent:.4f} over the last {min(100, len(trace.objective))} steps")
    cost = None if run.probe else cost_line(trace.facts.watching, run.steps)
    if cost is None and not run.probe:
        parts.append(f"{len(trace.steps)} of {run.steps:,} steps sampled")
    if trace.facts.skipped_updates:
        parts.append(f"{trace.facts.skipped_updates} updates skipped by GradScaler")
    console.print(Text("\n" + "; ".join(parts), "dim"), soft_wrap=True)
    if cost is not None:
        console.print(Text(cost, "dim"), soft_wrap=True)
        warning = budget_warning(trace.facts.watching)
        if warning is not None:
            console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
