"""What a fix is: plain data, independent of the rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from unstuck.trace.sites import Location


class Applicability(Enum):
    """How far a remedy may be applied without asking.

    SAFE keeps the function: outputs on a fixed batch stay equal, within rounding, in training and evaluation mode.
    UNSAFE changes the training. DISPLAY needs a person.
    """

    SAFE = "safe"
    UNSAFE = "unsafe"
    DISPLAY = "display"


@dataclass(frozen=True)
class Fix:
    """A remedy that was applied: what, where, and the measured statistic before and after, in `unit`.

    `snippet` does the same in the user's own code.
    """

    name: str
    code: str
    applicability: Applicability
    site: str
    location: Location | None
    statistic: str
    unit: str
    before: float
    after: float
    snippet: str = ""

    def __str__(self) -> str:
        place = f" at {self.location}" if self.location else ""
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.name}: {self.site}{place}: {self.statistic} {self.before:.4g} → {self.after:.4g}{unit}"
