"""The rendering for code scanning: SARIF 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""

from __future__ import annotations

import hashlib
import json
import linecache
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from unstuck._version import __version__
from unstuck.findings import Finding, Severity
from unstuck.report.files import cell_of, relative, repository_of, uri
from unstuck.report.json import finite
from unstuck.report.report import Report, SourcePatch
from unstuck.report.text import verdict
from unstuck.rules.catalogue import all_rules
from unstuck.rules.rule import Rule
from unstuck.rules.silence import is_silenced
from unstuck.trace import Location

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
FINGERPRINT = "unstuckFinding/v1"


def render(report: Report) -> str:
    """Return the report as a SARIF log of one run."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_Run(report).as_dict()]}
    return json.dumps(finite(log), indent=2, allow_nan=False) + "\n"


class _Run:
    """One run of the log under construction: results refer to rules by position, and to files by their repository."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.patches = report.source_patches(report.findings)
        self.rules: dict[str, int] = {}
        self.roots: dict[str, str] = {}  # repository -> uriBaseId
        self.seen: Counter[str] = Counter()

    def as_dict(self) -> dict[str, Any]:
        report = self.report
        results = [self._result(finding, **role) for finding, role in _roles(report)]
        results += [
            {
                **self._result(finding),
                "suppressions": [{"kind": "inSource" if is_silenced(finding, {}) else "external"}],
            }
            for finding in report.silenced
        ]
        driver = {
            "name": "unstuck",
            "version": report.run.versions.get("unstuck", __version__),
            "rules": [_rule(all_rules()[code]) if code in all_rules() else {"id": code} for code in self.rules],
        }
        return {
            "tool": {"driver": driver},
            "automationDetails": {"id": f"unstuck/{report.run.title}/"},
            "invocations": [_invocation(report)],
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {name: {"uri": root} for root, name in self.roots.items()},
            "results": results,
            "properties": {"ok": report.ok, "steps": report.run.steps, "verdict": verdict(report).plain},
        }

    def _rule_index(self, code: str) -> int:
        return self.rules.setdefault(code, len(self.rules))

    def _result(self, finding: Finding, cause: Finding | None = None, role: str = "root cause") -> dict[str, Any]:
        """Return a finding as a result; `cause` explains it."""
        because = "" if cause is None else f" (explained by {cause.code} {cause.name})"
        cell = cell_of(finding.location.file)[1] if finding.location else ""
        where = f"{cell}, line {finding.location.line}: " if finding.location and cell else ""
        made = {
            "ruleId": finding.code,
            "ruleIndex": self._rule_index(finding.code),
            "level": LEVELS[finding.severity],
            "message": {"text": f"{where}{finding.message}{because}"},
            "locations": [self._location(finding.site, finding.location)],
            "partialFingerprints": {FINGERPRINT: self._fingerprint(finding)},
            "properties": {
                "measured": finding.measured,
                "threshold": finding.threshold,
                "unit": finding.unit,
                "steps": list(finding.steps),
                "site": finding.site,
                "role": role,
                "evidence": [{"name": e.name, "value": e.value, "unit": e.unit} for e in finding.evidence],
                "remedies": list(finding.fixes),
            },
        }
        related = [(place.site, place.location) for place in finding.related]
        related += [] if cause is None else [(f"{cause.code} {cause.name}: {cause.message}", cause.location)]
        if related:
            made["relatedLocations"] = [
                {"id": number, "message": {"text": text}, **self._location("", location)}
                for number, (text, location) in enumerate(related)
            ]
        patch = self.patches.get(finding)
        if patch is not None and patch.edits and finding.location is not None:
            made["fixes"] = [self._fix(patch, finding.location)]
        return made

    def _location(self, site: str, location: Location | None) -> dict[str, Any]:
        made: dict[str, Any] = {}
        artifact = self._artifact(location)
        if location is not None and artifact:
            made["physicalLocation"] = {"artifactLocation": artifact, **_region(location)}
        if site:
            names = {"name": site, "kind": "member"}
            if location is not None and location.function != "<module>":
                names["fullyQualifiedName"] = f"{location.function}/{site}"
            made["logicalLocations"] = [names]
        return made

    def _artifact(self, location: Location | None) -> dict[str, str]:
        """Return the file's address below its repository, {} where there is no file."""
        file = "" if location is None else cell_of(location.file)[0]
        root = repository_of(file)
        if root is None:
            return {}
        base = root.as_uri().rstrip("/") + "/"
        name = self.roots.setdefault(base, "SRCROOT" if not self.roots else f"SRCROOT{len(self.roots) + 1}")
        return {"uri": uri(relative(file)), "uriBaseId": name}

    def _fingerprint(self, finding: Finding) -> str:
        """Return a hash that stays when lines are inserted above: of the code, the place and the line's own text."""
        location = finding.location
        parts = [finding.code, finding.site]
        if location is not None:
            file, cell = cell_of(location.file)
            parts += [relative(file) or file, cell, location.function, _line(location).strip()]
        text = "\0".join(parts)
        self.seen[text] += 1
        return hashlib.sha256(f"{text}\0{self.seen[text]}".encode(errors="surrogateescape")).hexdigest()

    def _fix(self, patch: SourcePatch, location: Location) -> dict[str, Any]:
        replacements = [
            {
                "deletedRegion": {
                    "startLine": edit.start[0],
                    "startColumn": edit.start[1],
                    "endLine": edit.end[0],
                    "endColumn": edit.end[1],
                },
                "insertedContent": {"text": edit.text},
            }
            for edit in patch.edits
        ]
        change = {"artifactLocation": self._artifact(location), "replacements": replacements}
        return {"description": {"text": f"{patch.name}: {patch.summary}"}, "artifactChanges": [change]}


def _roles(report: Report) -> Iterable[tuple[Finding, Mapping[str, Any]]]:
    """Yield each finding with what it is among the causes."""
    for cause in report.causes:
        yield cause.root, {}
        for other in cause.also:
            yield other, {}
        for symptom in cause.symptoms:
            yield symptom, {"cause": cause.root, "role": "symptom"}


def _line(location: Location) -> str:
    return linecache.getline(location.file, location.line).rstrip("\r\n")


def _region(location: Location) -> dict[str, Any]:
    """Return the whole line as a region; {} for a cell, whose lines are not those of its file."""
    if cell_of(location.file)[1]:
        return {}
    line = _line(location)
    region: dict[str, Any] = {"startLine": location.line}
    if line.strip():
        first = len(line) - len(line.lstrip()) + 1
        region |= {"startColumn": first, "endLine": location.line, "endColumn": len(line.rstrip()) + 1}
        region["snippet"] = {"text": line.strip()}
    return {"region": region}


def _rule(rule: type[Rule]) -> dict[str, Any]:
    sections, text = rule.sections(), rule.documentation()
    made = {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": " ".join(sections[""].split())},
        "fullDescription": {"text": " ".join(sections.get("What it does", sections[""]).split())},
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {"tags": ["neural network training", rule.stage.name.lower()]},
    }
    address = re.search(r"https?://[^\s)>,]+", sections.get("References", ""))
    return {**made, "helpUri": address[0].rstrip(".")} if address else made


def _invocation(report: Report) -> dict[str, Any]:
    """Say how the run went, and of each rule that could not judge what it lacked."""
    run, facts = report.run, report.trace.facts
    failures = [facts.internal_error] if facts.internal_error else []
    if run.failed:
        failures.append(f"the run {run.ending}")
    if not facts.backward_calls:
        failures.append("no backward pass was seen: the run did not train")
    made: dict[str, Any] = {
        "executionSuccessful": not failures and not run.exit_code,
        "toolExecutionNotifications": [{"level": "error", "message": {"text": text}} for text in failures],
        "toolConfigurationNotifications": [
            {
                "level": "note",
                "message": {"text": f"{rule.code} {rule.name} could not judge: it needs {rule.lacking}"},
                "associatedRule": {"id": rule.code},
            }
            for rule in report.not_checked
        ],
    }
    if run.command:
        made["arguments"] = list(run.command)
    if run.started:
        made["startTimeUtc"] = run.started.replace("+00:00", "Z")
    if run.exit_code is not None:
        made["exitCode"] = run.exit_code
    if run.exit_code and run.ending:
        made["exitCodeDescription"] = run.ending
    if run.signal:
        made["exitSignalName"] = run.signal
    return made
