"""Root causes: findings grouped under the finding that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.findings import Finding, Severity
from unstuck.rules.catalogue import all_rules


@dataclass(frozen=True)
class Cause:
    """A root finding, the same fault at other places, and the findings they explain, in causal order."""

    root: Finding
    symptoms: tuple[Finding, ...]
    also: tuple[Finding, ...] = ()


def causal_order(finding: Finding) -> tuple[int, int, int, str]:
    """Sort key: stage, then the worst first, then the earliest place."""
    place = finding.site_index if finding.site_index is not None else 1 << 30
    return (all_rules()[finding.code].stage, -int(finding.severity), place, finding.code)


def group(findings: Sequence[Finding]) -> list[Cause]:
    """Group findings under their root causes, earliest in causal order first.

    A finding is a symptom when another one declares that it explains its code: the first such in causal order, also
    one that stands later than the symptom (oversized updates kill units) where none stands earlier. Chains are
    followed to their root; a claim that would close a circle is ignored. Information-level findings explain nothing.
    Roots of one code are one cause: the first stands for it, the others are listed as `also`. Causes for information
    come last, for they claim nothing.
    """
    ordered = sorted(findings, key=causal_order)
    explainer_of: dict[int, int] = {}

    def root_of(position: int) -> int:
        while position in explainer_of:
            position = explainer_of[position]
        return position

    def claimed(position: int, others: range) -> None:
        for other in others:
            explainer = ordered[other]
            claims = ordered[position].code in explainer.explains and explainer.severity > Severity.INFO
            if claims and position not in explainer_of and root_of(other) != position:
                explainer_of[position] = other

    for position in range(len(ordered)):
        claimed(position, range(position))
    for position in range(len(ordered)):
        claimed(position, range(position + 1, len(ordered)))
    roots: dict[str, list[int]] = {}
    for position, finding in enumerate(ordered):
        if position not in explainer_of:
            roots.setdefault(finding.code, []).append(position)
    causes = [
        Cause(
            ordered[same[0]],
            tuple(ordered[i] for i in sorted(explainer_of) if root_of(i) in same),
            tuple(ordered[i] for i in same[1:]),
        )
        for same in roots.values()
    ]
    return sorted(causes, key=lambda cause: cause.root.severity is Severity.INFO)
