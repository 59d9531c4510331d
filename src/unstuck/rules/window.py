"""How much of a run a rule must have seen before it judges a place."""

from __future__ import annotations

import numpy as np

from unstuck.trace import Trace
from unstuck.trace.trace import Series

MIN_SAMPLED_STEPS = 4  # steps; one batch may be odd, the median of four is not moved by it


def seen_enough(trace: Trace, sampled: int) -> bool:
    """Tell whether `sampled` steps suffice: four, or every step of a run that ended with fewer."""
    there_are = MIN_SAMPLED_STEPS if trace.facts.under_way else max(1, len(trace.steps))
    return sampled >= min(MIN_SAMPLED_STEPS, there_are)


def finite(series: Series) -> Series:
    """Return the (steps, values) whose value is finite."""
    steps, values = series
    keep = np.isfinite(values)
    return steps[keep], values[keep]


def span(steps: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[int, int]:
    """Return the first and the last of some steps in order."""
    return int(steps[0]), int(steps[-1])
