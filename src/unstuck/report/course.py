"""How a run went, for the terminal: its losses, what was left out, what watching cost."""

from __future__ import annotations

import math

from rich.console import Console
from rich.text import Text

from unstuck.findings import Finding
from unstuck.report.report import Report, rank_losses, recent_loss, shared, starting_loss
from unstuck.report.watching import budget_warning, cost_line, percent


def print_run(console: Console, report: Report, *, short: bool = False, close: bool = False) -> None:
    """Print how the loss went and what watching cost; `short`, with what was not checked or shown, in two lines.

    They are one when `close`. Text longer than a line is not broken.
    """
    facts = report.trace.facts
    groups: list[list[Text]] = [[], []]
    if facts.internal_error:
        groups[0].append(Text(f"watching ended early by an internal error: {facts.internal_error}", "red"))
    if facts.backward_calls:
        groups[0].append(Text("; ".join(_how_it_went(report, short=short)), "dim"))
        cost = None if report.run.probe else cost_line(facts.watching, report.run.steps)
        warning = None if cost is None else budget_warning(facts.watching)
        groups[1] += [] if cost is None else [Text(cost, "dim")]
        groups[1] += [] if warning is None else [Text(f"warning: {warning}", "yellow")]
    if not short:
        for number, text in enumerate(text for group in groups for text in group):
            console.print(Text("" if number else "\n").append(text), soft_wrap=True)
        return
    for group in [groups[0] + groups[1]] if close else groups:
        if group:
            line = Text("; ").join(group)
            line.plain = line.plain.replace("\n", " ")
            console.print(line, soft_wrap=True)


def _how_it_went(report: Report, *, short: bool) -> list[str]:
    trace, run = report.trace, report.run
    parts = _losses(report)
    if not run.probe and cost_line(trace.facts.watching, run.steps) is None:
        parts.append(f"{len(trace.steps)} of {run.steps:,} steps sampled")
    if trace.facts.skipped_updates:
        parts.append(f"{trace.facts.skipped_updates} updates skipped by GradScaler")
    if short and report.silenced:
        parts.append(f"silenced: {counted(report.silenced)}")
    if short and report.not_checked:
        plural = "s" if len(report.not_checked) > 1 else ""
        parts.append(f"{len(report.not_checked)} rule{plural} not checked (-v says why)")
    return parts


def _losses(report: Report) -> list[str]:
    start, baseline = starting_loss(report.trace)
    recent = recent_loss(report.trace)
    parts = []
    if start is not None:
        parts.append(f"loss {start:.4f} at step 0" + (f" (baseline {baseline:.4f})" if baseline is not None else ""))
    if recent is not None and report.run.steps > 1:
        parts.append(f"{recent:.4f} over the last {min(100, len(report.trace.objective))} steps")
    ranks = {rank: loss for rank, loss in enumerate(rank_losses(report.trace)) if math.isfinite(loss)}
    if len(ranks) > 1:
        low, high = min(ranks, key=ranks.__getitem__), max(ranks, key=ranks.__getitem__)
        middle = abs(sum(ranks.values()) / len(ranks))
        apart = percent((ranks[high] - ranks[low]) / middle) if middle else f"{ranks[high] - ranks[low]:.4g}"
        parts.append(f"its ranks {apart} apart (rank {low} lowest, rank {high} highest)")
    return parts


def counted(findings: tuple[Finding, ...]) -> str:
    """Return the codes of findings, each with how many there are."""
    return ", ".join(f"{code} ×{n}" if n > 1 else code for code, n in shared(findings))
