"""What every rule is."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import IntEnum
from typing import ClassVar

from unstuck.findings import Evidence, Finding, Severity
from unstuck.trace import Signal, Site, Trace

HEADINGS = (
    "What it does",
    "Why is this bad",
    "Evidence",
    "Stays silent on",
    "Example",
    "Fix",
    "References",
)


class Stage(IntEnum):
    """Causal order: where in a training step a fault sits, and so which of two findings is named first."""

    DATA = 0
    INIT = 1
    LOSS = 2
    NORMALISATION = 3
    ACTIVATION = 4
    GRADIENT = 5
    UPDATE = 6
    OUTCOME = 7


class Rule(ABC):
    """One fault.

    Subclasses set the class variables and write `detect`; their docstring is their documentation and has the
    headings of `HEADINGS`. `needs` names the signals without which the rule cannot judge, `explains` the codes whose
    findings may be consequences of this fault, `fixes` the names of the remedies.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    stage: ClassVar[Stage]
    severity: ClassVar[Severity] = Severity.WARNING
    needs: ClassVar[tuple[Signal, ...]]
    explains: ClassVar[tuple[str, ...]] = ()
    fixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield a finding for each place that shows the fault; only called when nothing is `lacking`."""

    def lacking(self, trace: Trace) -> str | None:
        """Return what the trace lacks for this rule to judge, or None. Rules with further needs extend this."""
        missing = [signal.value for signal in self.needs if not trace.has(signal)]
        return "; ".join(missing) or None

    def finding(
        self,
        site: Site | None,
        *,
        steps: tuple[int, int],
        measured: float,
        threshold: float,
        unit: str,
        message: str,
        evidence: tuple[Evidence, ...] = (),
        severity: Severity | None = None,
        fixes: tuple[str, ...] | None = None,
    ) -> Finding:
        """Build a finding of this rule at a site (None: the run as a whole)."""
        return Finding(
            self.code,
            self.name,
            self.severity if severity is None else severity,
            site.label if site else "the run",
            site.location if site else None,
            steps,
            measured,
            threshold,
            unit,
            message,
            evidence,
            self.fixes if fixes is None else fixes,
            self.explains,
            site.index if site else None,
        )

    @classmethod
    def documentation(cls) -> str:
        """Return the docstring, de-indented."""
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def sections(cls) -> dict[str, str]:
        """Return the text under each heading; the summary line stands under ""."""
        parts = re.split(r"^## (.+)$", cls.documentation(), flags=re.MULTILINE)
        texts = {"": parts[0].strip()}
        texts.update({heading.strip(): text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)})
        return texts
