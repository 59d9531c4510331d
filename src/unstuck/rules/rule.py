"""What every rule is."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self, overload

from unstuck.findings import Evidence, Finding, Place, Severity
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


@dataclass(frozen=True)
class Threshold:
    """A limit that a rule judges by, as a class variable of the rule; settings may replace its value.

    On a rule's instance it reads as the number that counts. Its source stands beside the constant it is made from.
    """

    value: float
    unit: str
    name: str = ""

    def __set_name__(self, owner: type[Rule], name: str) -> None:
        object.__setattr__(self, "name", name)

    @overload
    def __get__(self, rule: None, owner: type[Rule]) -> Self: ...
    @overload
    def __get__(self, rule: Rule, owner: type[Rule]) -> float: ...
    def __get__(self, rule: Rule | None, owner: type[Rule]) -> Self | float:
        return self if rule is None else rule.settings.get(self.name, self.value)


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

    def __init__(self, settings: Mapping[str, float] | None = None) -> None:
        """Take the values that replace thresholds, by name; which there are is checked by the catalogue."""
        self.settings = dict(settings or {})

    @classmethod
    def thresholds(cls) -> dict[str, Threshold]:
        """Return the thresholds that settings may replace, by name."""
        return {name: value for name, value in vars(cls).items() if isinstance(value, Threshold)}

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
        related: tuple[Site, ...] = (),
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
            tuple(Place(other.label, other.location) for other in related),
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
