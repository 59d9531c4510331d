"""The rendering for programs: one JSON object with a versioned layout."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from unstuck.findings import Finding
from unstuck.report.report import AppliedFix, Proof, Report, SourcePatch, rank_losses, recent_loss, starting_loss
from unstuck.report.text import source_line
from unstuck.report.watching import budget_warning
from unstuck.trace import Kind, Location, Role, Site, Trace, Watching

SCHEMA_VERSION = 1  # of `schema/report-1.json`; raised when a reader of the old one could not read the new one


def schema() -> str:
    """Return the JSON Schema (draft 2020-12) that every report keeps to, as text."""
    file = resources.files("unstuck.report") / "schema" / f"report-{SCHEMA_VERSION}.json"
    return file.read_text(encoding="utf-8")


def render(report: Report) -> str:
    """Return the report as JSON text; non-finite numbers become null."""
    return json.dumps(finite(as_dict(report)), indent=2, allow_nan=False) + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain dicts and lists."""
    run, trace = report.run, report.trace
    start, baseline = starting_loss(trace)
    patches = report.source_patches(report.findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": report.ok,
        "run": {
            "title": run.title,
            "command": list(run.command),
            "versions": run.versions,
            "started": run.started,
            "steps": run.steps,
            "sampled_steps": list(trace.steps),
            "seconds": run.seconds,
            "watching_seconds": run.watching_seconds,
            "exit_code": run.exit_code,
            "exception": run.exception or None,
            "signal": run.signal or None,
            "ending": run.ending or None,
            "stopped_by_step_limit": run.stopped,
            "probe": run.probe,
            "unfinished": run.unfinished or None,
            "backward_calls": trace.facts.backward_calls,
            "optimizer_steps": trace.facts.optimizer_steps,
            "skipped_updates": trace.facts.skipped_updates,
            "weights_loaded": trace.facts.weights_loaded,
            "internal_error": trace.facts.internal_error,
        },
        "watching": _watching(trace.facts.watching),
        "loss": {
            "at_start": start,
            "baseline": baseline,
            "recent": recent_loss(trace),
            "of_ranks": rank_losses(trace) or None,
        },
        "causes": [
            {
                "root": _finding(cause.root, patches),
                "also": [_finding(other, patches) for other in cause.also],
                "explains": [_finding(symptom, patches) for symptom in cause.symptoms],
            }
            for cause in report.causes
        ],
        "fixes": [_fix(fix) for fix in report.fixes],
        "withheld": list(report.withheld),
        "silenced": [_finding(finding, {}) for finding in report.silenced],
        "not_checked": [{"code": r.code, "name": r.name, "needs": r.lacking} for r in report.not_checked],
        "sites": [_site(trace, site) for site in sorted(trace.sites, key=lambda s: s.order)],
    }


def _watching(cost: Watching) -> dict[str, Any]:
    return {
        **dataclasses.asdict(cost),
        "share": cost.share,
        "budget_missed": cost.missed,
        "warning": budget_warning(cost),
    }


def _location(location: Location | None) -> dict[str, Any] | None:
    if location is None:
        return None
    return {
        "file": location.file,
        "line": location.line,
        "function": location.function,
        "source": source_line(location),
    }


def _finding(finding: Finding, patches: Mapping[Finding, SourcePatch]) -> dict[str, Any]:
    patch = patches.get(finding)
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": str(finding.severity),
        "site": finding.site,
        "location": _location(finding.location),
        "steps": list(finding.steps),
        "measured": finding.measured,
        "threshold": finding.threshold,
        "unit": finding.unit,
        "message": finding.message,
        "evidence": [{"name": e.name, "value": e.value, "unit": e.unit} for e in finding.evidence],
        "related": [{"site": place.site, "location": _location(place.location)} for place in finding.related],
        "fixes": list(finding.fixes),
        "patch": {"name": patch.name, "summary": patch.summary, "diff": patch.diff} if patch and patch.diff else None,
        "no_patch": patch.reason if patch and not patch.diff else None,
    }


def _fix(fix: AppliedFix) -> dict[str, Any]:
    return {
        "name": fix.name,
        "code": fix.code,
        "site": fix.site,
        "location": _location(fix.location),
        "statistic": fix.statistic,
        "unit": fix.unit,
        "before": fix.before,
        "after": fix.after,
        "snippet": fix.snippet,
        "step": fix.step,
        "restarted": fix.restarted,
        "kept": fix.kept,
        "why": fix.why,
        "proof": None if fix.proof is None else _proof(fix.proof),
    }


def _site(trace: Trace, site: Site) -> dict[str, Any]:
    calls = [count for _, count in trace.scalars(site, "calls")]
    entry: dict[str, Any] = {
        "index": site.index,
        "calls": int(max(calls, default=1)),
        "feeds": [consumer.index for consumer in trace.consumers(site)],
        "feeds_indirectly": [consumer.index for consumer in trace.consumers(site, direct=False)],
        "label": site.label,
        "kind": str(site.kind),
        "op": site.op,
        "location": _location(site.location),
        "shape": list(site.shape),
        "roles": {},
    }
    if site.kind is Kind.PARAMETER:
        entry["update_stride"] = site.update_stride  # updates are measured on every n-th element
    for role in Role:
        steps, std = trace.series(site, role, "std")
        if len(steps):
            summary = {"first_step": int(steps[0]), "last_step": int(steps[-1])}
            entry["roles"][str(role)] = {**summary, "std_first": float(std[0]), "std_last": float(std[-1])}
    _, ratios = trace.update_to_data(site)
    if len(ratios):
        entry["update_to_data_first"], entry["update_to_data_last"] = float(ratios[0]), float(ratios[-1])
        entry["update_to_data_median"] = float(np.median(ratios))
    if site.kind is Kind.ACTIVATION:
        _, outside = trace.series(site, Role.INPUT, "outside_fraction")
        if len(outside):
            dead = trace.dead_units(site)
            entry["outside_first"] = float(outside[0])
            entry["outside_median"] = float(np.median(outside))
            entry["dead_units"] = None if dead is None else int(dead.sum())
    return entry


def finite(value: Any) -> Any:
    """Return a value with NaN and infinities, which JSON does not have, replaced by null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "steps": proof.steps,
        "loss_before": proof.loss_before,
        "loss_after": proof.loss_after,
        "gone": proof.gone,
    }
