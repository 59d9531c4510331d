"""The parts of a run between one mending and the next."""

from __future__ import annotations

from dataclasses import dataclass

from unstuck.trace.trace import Trace


@dataclass(frozen=True)
class Stretch:
    """Steps `begin` to `end` - 1 (None: to the end of the run), during which nothing was mended.

    `restarted` says whether training began anew with the first, so that it is judged as the start of training;
    `settled` holds the codes of the root cause that was mended at its end, and of what followed from it.
    """

    begin: int = 0
    end: int | None = None
    restarted: bool = False
    settled: tuple[str, ...] = ()

    @property
    def starts(self) -> bool:
        """Whether training begins with it."""
        return self.restarted or not self.begin

    def of(self, trace: Trace) -> Trace:
        """Return the part of a run's record."""
        return trace.between(self.begin, self.end, as_start=self.restarted)
