"""How much of a run a rule must have seen before it judges a place."""

from __future__ import annotations

import numpy as np

from unstuck.trace import Trace
from unstuck.trace.trace import Series

MIN_SAMPLED_STEPS = 4  # steps; one batch may be odd, the median of four is not moved by it
UNDER_WAY_STEPS = 8  # of a run that goes on: in zoo's pixel-codes/fixed gradients fade for seven steps and come back


def seen_enough(trace: Trace, sampled: int) -> bool:
    """Tell whether `sampled` steps suffice: four, or every step of a run that had fewer."""
    return sampled >= min(MIN_SAMPLED_STEPS, max(1, len(trace.steps)))


def may_pass(trace: Trace, sampled: int) -> bool:
    """Tell whether what `sampled` steps show may be gone after some more: in a run that goes on, of less than eight."""
    return trace.facts.under_way and sampled < UNDER_WAY_STEPS


def finite(series: Series) -> Series:
    """Return the (steps, values) whose value is finite."""
    steps, values = series
    keep = np.isfinite(values)
    return steps[keep], values[keep]


def span(steps: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[int, int]:
    """Return the first and the last of some steps in order."""
    return int(steps[0]), int(steps[-1])
