"""The rendering for GitHub: workflow commands that annotate the lines of a pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.escape import no_commands, printable
from unstuck.findings import Finding, Severity
from unstuck.report.files import cell_of, relative
from unstuck.report.report import Report
from unstuck.report.text import fix_line, verdict
from unstuck.rules.causes import Cause
from unstuck.trace import Location

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report) -> str:
    """Return the verdict as a plain line, then one command for each finding and fix, root causes first.

    GitHub shows the first ten of each level in a step.
    """
    facts = report.trace.facts
    lines = [no_commands(_data(verdict(report).plain))]
    if facts.internal_error:
        lines.append(
            _command("error", None, "unstuck", f"watching ended early by an internal error: {facts.internal_error}")
        )
    if not facts.backward_calls and not report.causes:
        lines.append(_command("error", None, "unstuck", "no backward pass was seen: nothing to judge"))
    lines += [_root(cause) for cause in report.causes]
    lines += [line for cause in report.causes for line in _rest(cause)]
    lines += [
        _command("notice", fix.location, f"mended: {fix.name}", fix_line(fix)) for fix in report.fixes if fix.kept
    ]
    lines += [_command("notice", None, "not mended", text) for text in report.withheld]
    return "".join(f"{line}\n" for line in lines)


def _root(cause: Cause) -> str:
    root = cause.root
    said = [root.message]
    if cause.symptoms:
        said.append(f"it explains {', '.join(dict.fromkeys(f'{s.code} {s.name}' for s in cause.symptoms))}")
    if root.fixes:
        said.append(f"remedy: {', '.join(root.fixes)}")
    said.append(f"see `unstuck rule {root.code}`")
    return _annotation(root, "; ".join(said))


def _rest(cause: Cause) -> Iterator[str]:
    yield from (_annotation(other, other.message) for other in cause.also)
    for symptom in cause.symptoms:
        yield _annotation(symptom, f"{symptom.message}; explained by {cause.root.code} {cause.root.name}")


def _annotation(finding: Finding, message: str) -> str:
    title = f"{finding.code} {finding.name}: {finding.site}"
    return _command(LEVELS[finding.severity], finding.location, title, message)


def _command(level: str, location: Location | None, title: str, message: str) -> str:
    place = []
    if location is not None:
        file, cell = cell_of(location.file)
        path = relative(file)
        if path:
            place.append(f"file={_property(path)}")
        if path and not cell:
            place.append(f"line={location.line}")
        elif cell or not path:
            message = f"{cell or location.file}, line {location.line}: {message}"
    return f"::{level} {','.join([*place, f'title={_property(title)}'])}::{_data(message)}"


def _data(text: str) -> str:
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
