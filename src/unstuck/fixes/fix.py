"""What a fix is: plain data, independent of the rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from unstuck.trace.sites import Location


class Applicability(Enum):
    """How far a remedy may be applied without asking.

    SAFE leaves the training as it is: outputs on a fixed batch in training mode stay equal, within rounding. In
    evaluation mode they do too, except that recalibration gives evaluation the statistics of the data. UNSAFE changes
    the training. DISPLAY needs a person.
    """

    SAFE = "safe"
    UNSAFE = "unsafe"
    DISPLAY = "display"


@dataclass(frozen=True)
class Proof:
    """What training for `steps` steps from the same state, with the same batches and random numbers, has shown.

    `loss_before` and `loss_after` are mean objectives over the last tenth of the steps (infinite when the training
    broke), without the fix and with it; `gone` says whether the finding was not made any more.
    """

    steps: int
    loss_before: float
    loss_after: float
    gone: bool

    def __str__(self) -> str:
        finding = "the finding is gone" if self.gone else "the finding is still made"
        steps = f"{self.steps} step{'' if self.steps == 1 else 's'}"
        return f"loss after {steps} {self.loss_before:.4g} → {self.loss_after:.4g}, {finding}"


@dataclass(frozen=True)
class Fix:
    """A remedy that was applied: what, where, and the measured statistic before and after, in `unit`.

    `after` is None where it was not measured again, though a proof may say that the finding is gone. `snippet` does the
    same in the user's own code. `step` is the update after which it was applied (0: before the first one); with
    `restarted` training began again there: the parameters and buffers were put back to the start, and the optimizers'
    states cleared. A fix that was not `kept` has been put back, and `why` says for what reason.
    """

    name: str
    code: str
    applicability: Applicability
    site: str
    location: Location | None
    statistic: str
    unit: str
    before: float
    after: float | None
    snippet: str = ""
    step: int = 0
    proof: Proof | None = None
    kept: bool = True
    why: str = ""
    restarted: bool = False

    def __str__(self) -> str:
        place = f" at {self.location}" if self.location else ""
        unit = "" if self.unit == "1" else f" {self.unit}"
        unmeasured = "none" if self.proof is not None and self.proof.gone else "not measured again"
        after = unmeasured if self.after is None else f"{self.after:.4g}{unit}"
        return f"{self.name}: {self.site}{place}: {self.statistic} {self.before:.4g} → {after}"
