"""Root causes: findings grouped under the finding that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.findings import Finding, Severity
from unstuck.rules.catalogue import all_rules


@dataclass(frozen=True)
class Cause:
    """A root finding and the findings it explains, in causal order."""

    root: Finding
    symptoms: tuple[Finding, ...]


def causal_order(finding: Finding) -> tuple[int, int, int, str]:
    """Sort key: stage, then the worst first, then the earliest place."""
    place = finding.site_index if finding.site_index is not None else 1 << 30
    return (all_rules()[finding.code].stage, -int(finding.severity), place, finding.code)


def group(findings: Sequence[Finding]) -> list[Cause]:
    """Group findings under their root causes, earliest in causal order first.

    A finding is a symptom when another one, earlier or at the same stage and at least as severe as INFO, declares
    that it explains its code; chains are followed to their root. Information-level findings explain nothing.
    """
    ordered = sorted(findings, key=causal_order)
    root_of: dict[int, int] = {}
    for position, finding in enumerate(ordered):
        for earlier in range(position):
            explainer = ordered[earlier]
            if finding.code in explainer.explains and explainer.severity > Severity.INFO:
                root_of[position] = root_of.get(earlier, earlier)
                break
    return [
        Cause(finding, tuple(ordered[i] for i, root in root_of.items() if root == position))
        for position, finding in enumerate(ordered)
        if position not in root_of
    ]
