"""What a rule claims: plain data with numbers in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from unstuck.trace.sites import Location


class Severity(IntEnum):
    """How bad a finding is, in rising order."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Evidence:
    """One more number behind a finding: what it is, its value and its unit ("nat", "%", "1" for a pure number)."""

    name: str
    value: float
    unit: str = "1"


@dataclass(frozen=True)
class Place:
    """A further place that a finding speaks of: the site's label and its line."""

    site: str
    location: Location | None


@dataclass(frozen=True)
class Finding:
    """A claim: what was measured, where, when, and against which threshold.

    `measured` and `threshold` are in `unit`. `steps` is the first and last step the measurement covers, `site` the
    label of the place, `related` the other places that the fault needs, such as the softmax before a loss that has
    its own. `explains` holds the codes of rules whose findings may be consequences of this one, `fixes` the names of
    remedies. Raises ValueError when a number is missing or NaN.
    """

    code: str
    name: str
    severity: Severity
    site: str
    location: Location | None
    steps: tuple[int, int]
    measured: float
    threshold: float
    unit: str
    message: str
    evidence: tuple[Evidence, ...] = ()
    fixes: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    site_index: int | None = field(default=None, compare=False)
    related: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        for what in ("measured", "threshold"):
            if not math.isfinite(getattr(self, what)):
                raise ValueError(f"{self.code}: a finding needs numbers, but {what} is {getattr(self, what)}")
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"{self.code}: the step range {self.steps} runs backwards")
