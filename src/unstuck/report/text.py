"""The terminal's rendering: verdict, root causes with lines and numbers, what was mended, what was not checked."""

from __future__ import annotations

import io
import linecache
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from unstuck.escape import no_commands, printable
from unstuck.findings import Finding, Severity
from unstuck.report.course import counted, print_run
from unstuck.report.report import AppliedFix, Report, shared
from unstuck.report.unproven import unproven
from unstuck.rules.causes import Cause
from unstuck.trace import Location

MARKS = {Severity.ERROR: ("✗", "bold red"), Severity.WARNING: ("!", "bold yellow"), Severity.INFO: ("i", "bold cyan")}

MOST_LINES = 38  # of a report that is not verbose; an empty line before it and a hint after it make forty
LAST_LINES = 4  # that stay where a report must be cut: how the run went, and what watching cost
MOST_NEEDS = 3  # things that rules lacked and that are listed unasked


@dataclass(frozen=True)
class Detail:
    """How much is told: root causes, codes of what each explains, further places of a fault, characters of a message,
    fixes of one kind with their snippets, and reasons why something was not mended. None: all there are.
    """

    causes: int | None = None
    symptoms: int | None = None
    also: int | None = None
    message: int | None = None
    fixes: int | None = None
    withheld: int | None = None


EVERYTHING = Detail()
SHORTER = (  # the first of these that gives no more than `MOST_LINES` is used
    Detail(causes=8, symptoms=6, also=6, fixes=2, withheld=3),
    Detail(causes=6, symptoms=2, also=4, fixes=1, withheld=2),
    Detail(causes=5, symptoms=0, also=2, message=400, fixes=1, withheld=1),
    Detail(causes=4, symptoms=0, also=0, message=200, fixes=0, withheld=1),
    Detail(causes=3, symptoms=0, also=0, message=200, fixes=0, withheld=0),
)


def render(report: Report, *, width: int = 100, color: bool = False, verbose: bool = False) -> str:
    """Return the report as text of at most `width` columns, with ANSI colours if asked.

    It has at most `MOST_LINES` lines, and a healthy run's three (however long); `verbose` text has all there is to
    say: each finding and fix, and of each rule that could not judge what it lacked.
    """
    if verbose:
        return _render(report, EVERYTHING, width, color)
    text = ""
    for detail in SHORTER:
        text = _render(report, detail, width, color)
        if text.count("\n") <= MOST_LINES:
            return text
    lines = text.splitlines()
    left = len(lines) - MOST_LINES + 1
    kept = [*lines[: -left - LAST_LINES], f"… {left} lines left out (-v says all)", *lines[-LAST_LINES:]]
    return "".join(f"{line}\n" for line in kept)


def _render(report: Report, detail: Detail, width: int, color: bool) -> str:
    out = io.StringIO()
    console = _Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        no_color=not color,
        legacy_windows=False,
        force_jupyter=False,  # else rich shows each line in the notebook and writes none
    )
    console.print(verdict(report), soft_wrap=True)
    faults = [cause for cause in report.causes if cause.root.severity > Severity.INFO or detail is EVERYTHING]
    healthy = not (faults or report.fixes or report.withheld)
    for cause in faults[: detail.causes]:
        _print_cause(console, cause, detail)
    _print_rest(console, faults[len(faults[: detail.causes]) :])
    if detail is not EVERYTHING:
        _print_remarks(console, [cause for cause in report.causes if cause.root.severity <= Severity.INFO], healthy)
    _print_fixes(console, report, detail)
    if healthy and detail is not EVERYTHING:
        print_run(console, report, short=True, close=bool(report.causes))
    else:
        _print_not_checked(console, report, detail is EVERYTHING)
        _print_silenced(console, report)
        print_run(console, report)
    return no_commands("".join(line.rstrip() + "\n" for line in out.getvalue().splitlines()))


class _Console(Console):
    """A console on which no string of the user's program does what it pleases."""

    def print(self, *objects: Any, **options: Any) -> None:
        for thing in objects:
            text = thing.renderable if isinstance(thing, Padding) else thing
            if isinstance(text, Text):
                text.plain = printable(text.plain)
        super().print(*objects, **options)


def verdict(report: Report) -> Text:
    """Return the first line: what the whole comes to."""
    facts = report.trace.facts
    end = f", which {report.run.ending}" if report.run.ending else ""
    if not facts.backward_calls and not report.causes:
        return Text(f"unstuck: no backward pass was seen in {report.run.title}{end}: nothing to judge", "bold yellow")
    roots = [cause for cause in report.causes if cause.root.severity > Severity.INFO]
    steps = f"{report.run.steps:,} step{'s' if report.run.steps != 1 else ''} of {report.run.title}{end}"
    steps = report.run.title if report.run.probe else steps
    if not roots:
        return Text(f"unstuck: no fault found in {steps}", "bold yellow" if report.run.failed else "bold green")
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


def _print_cause(console: Console, cause: Cause, detail: Detail) -> None:
    finding = cause.root
    mark, style = MARKS[finding.severity]
    head = Text(f"\n{mark} {finding.code} {finding.name}", style)
    where = place(finding.location)
    head.append(f"  {where}" if where else f"  {finding.site}", "bold")
    console.print(head, soft_wrap=True)
    _indented(console, Text(_clipped(finding.message, detail.message)))
    line = source_line(finding.location)
    if line:
        _indented(console, Text(f"│ {_clipped(line, detail.message)}", "dim"))
    _also(console, cause.also, detail)
    if cause.symptoms:
        _explained(console, cause.symptoms, detail)
    if finding.fixes:
        _indented(console, Text(f"remedy: {', '.join(finding.fixes)} (unstuck rule {finding.code})", "green"))


def _also(console: Console, others: tuple[Finding, ...], detail: Detail) -> None:
    if not others:
        return
    named = others[: detail.also]
    places = [f"{_clipped(f.site, detail.message)} ({_number(f.measured, f.unit)})" for f in named]
    more = len(others) - len(named)
    rest = [f"{more} more place{'s' if more > 1 else ''}" if not named else f"{more} more"] if more else []
    _indented(console, Text(f"also at {' and '.join([*([', '.join(places)] if places else []), *rest])}"))


def _number(value: float, unit: str) -> str:
    return f"{value:.3g}{'' if unit == '1' else ' ' + unit}"


def _explained(console: Console, symptoms: tuple[Finding, ...], detail: Detail) -> None:
    """Say what a cause explains: each code with its count, then the first finding of each, or all of them."""
    names = ", ".join(f"{name}{f' ×{n}' if n > 1 else ''}" for name, n in shared(symptoms))
    first = list({symptom.code: symptom for symptom in reversed(symptoms)}.values())[::-1]
    shown = symptoms if detail.symptoms is None else first[: detail.symptoms]
    _indented(console, Text(f"explains {names}{':' if shown else ''}", "italic"))
    for symptom in shown:
        _indented(console, _symptom(symptom), by=4)


def _print_rest(console: Console, causes: list[Cause]) -> None:
    """Name the root causes that are not told in full."""
    if causes:
        named = ", ".join(f"{cause.root.code} {cause.root.name} {_where(cause.root)}" for cause in causes)
        plural = "s" if len(causes) > 1 else ""
        console.print(Text(f"\n{len(causes)} more root cause{plural} (-v says all): {named}", "bold"), soft_wrap=True)


def _print_remarks(console: Console, causes: list[Cause], close: bool) -> None:
    """Print in one line what is said for information; right below the verdict when `close`."""
    if not causes:
        return
    mark, style = MARKS[Severity.INFO]
    found = [(cause.root, f" and {len(cause.also)} more" if cause.also else "") for cause in causes]
    text = ", ".join(f"{f.code} {f.name}  {_where(f)}{more}" for f, more in found) + " (-v says more)"
    if len(found) == 1:
        (finding, more) = found[0]
        text = f"{finding.code} {finding.name}  {_where(finding)}{more}: {_clipped(finding.message, 200)}"
    console.print(Text(f"{'' if close else chr(10)}{mark} {text}", style), soft_wrap=True)


def _where(finding: Finding) -> str:
    return place(finding.location) or finding.site


def _clipped(text: str, length: int | None) -> str:
    return text if length is None or len(text) <= length else text[: length - 1] + "…"


def _symptom(finding: Finding) -> Text:
    where = place(finding.location)
    return Text(f"{finding.code} {where + ': ' if where else ''}{finding.message}")


def _indented(console: Console, text: Text, by: int = 2) -> None:
    console.print(Padding(text, (0, 0, 0, by)))


def _print_fixes(console: Console, report: Report, detail: Detail) -> None:
    groups = {
        "mended before the first step:": [fix for fix in report.fixes if fix.kept and not fix.step],
        "mended while it trained:": [fix for fix in report.fixes if fix.kept and fix.step],
        "tried, and put back:": [fix for fix in report.fixes if not fix.kept],
    }
    for title, fixes in groups.items():
        if fixes:
            console.print(Text(f"\n{title}", "bold green" if fixes[0].kept else "bold yellow"))
        for same in _by_kind(fixes):
            shown = same[: None if detail.fixes is None else max(1, detail.fixes)]
            for fix in shown:
                _print_fix(console, fix, with_lines=detail.fixes != 0)
            _print_more(console, same[len(shown) :])
        if notes := unproven(report, fixes):
            _indented(console, Text("; ".join(notes), "yellow"))
    for text in report.withheld[: detail.withheld]:
        console.print(Text(f"\nnot mended: {_clipped(text, detail.message)}", "yellow"), soft_wrap=True)
    more = len(report.withheld) - len(report.withheld[: detail.withheld])
    if more:
        console.print(Text(f"not mended: {more} {'more' if detail.withheld else 'repairs'} (-v says why)", "yellow"))


def _by_kind(fixes: Iterable[AppliedFix]) -> Iterable[list[AppliedFix]]:
    """Return fixes in lists of one remedy each, for one fault, in order of first appearance."""
    kinds: dict[tuple[str, str], list[AppliedFix]] = {}
    for fix in fixes:
        kinds.setdefault((fix.name, fix.code), []).append(fix)
    return kinds.values()


def _print_fix(console: Console, fix: AppliedFix, *, with_lines: bool) -> None:
    _indented(console, Text(f"{fix.code} {fix_line(fix)}"))
    if fix.proof is not None:
        _indented(console, Text(str(fix.proof)), by=6)
    for line in (fix.snippet if fix.kept else fix.why).splitlines() if with_lines else ():
        _indented(console, Text(line, "dim"), by=6)


def _print_more(console: Console, fixes: list[AppliedFix]) -> None:
    """Name the fixes of a kind that are not told in full, with what they did where there is room for it."""
    if fixes:
        told = [f"{fix.site} {fix.before:.3g} → {after_of(fix, 3)}" for fix in fixes]
        named = ", ".join(told[:MOST_NEEDS]) + (" …" if len(told) > MOST_NEEDS else "")
        _indented(console, Text(f"{fixes[0].code} {fixes[0].name}: {len(fixes)} more (-v says all): {named}"))


def fix_line(fix: AppliedFix) -> str:
    """Return what a fix did: its name, where, when, and the statistic before and after."""
    unit = "" if fix.unit == "1" else f" {fix.unit}"
    where = f" ({place(fix.location)})" if fix.location else ""
    when = f" after step {fix.step}" if fix.step else ""
    when += ", training began again" if fix.restarted else ""
    after = after_of(fix, 4) + ("" if fix.after is None else unit)
    return f"{fix.name}: {fix.site}{where}{when}: {fix.statistic} {fix.before:.4g} → {after}"


def after_of(fix: AppliedFix, digits: int) -> str:
    """Return the statistic after a fix; where none was taken, what its proof says of the finding, if it has one."""
    if fix.after is None:
        return "none" if fix.proof is not None and fix.proof.gone else "not measured again"
    return f"{fix.after:.{digits}g}"


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
        console.print(Text(f"\nsilenced by comments or settings: {counted(report.silenced)}", "dim"))
