"""The window of sampled steps by which the units of an activation function are judged."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unstuck.rules.graph import Graph
from unstuck.rules.shown import MIN_DIFFERENT, different_elements, is_selected
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.stats.summary import UnitSummary
from unstuck.trace import Kind, Role, Site, Trace

MIN_ELEMENTS = 1_000  # elements of each unit; a unit active for 0.3 % of them is seen with 95 % certainty
LAST_FIRST_STEP = 4  # step; what did not respond up to here has not died since, as for I007

Window = tuple[tuple[int, int], int, UnitSummary]  # first and last step, sampled steps, units over all of them


def latest_window(trace: Trace, site: Site) -> Window | None:
    """Return the shortest run of latest sampled steps that suffices to call a unit dead, or None."""
    merged: UnitSummary | None = None
    summaries = trace.summaries(site, Role.INPUT)
    for sampled, (step, summary) in enumerate(reversed(summaries), start=1):
        units = summary.units
        if units is None or (merged is not None and len(units) != len(merged)):
            return None
        merged = units if merged is None else merged.merge(units)
        if sampled >= MIN_SAMPLED_STEPS and merged.count >= MIN_ELEMENTS:
            return (step, summaries[-1][0]), sampled, merged
    return None


def silent_at_first(trace: Trace, site: Site, count: int) -> npt.NDArray[np.bool_]:
    """Tell of each unit whether it responded to nothing in the first steps; of none where they were not seen."""
    early = [s.units for step, s in trace.summaries(site, Role.INPUT) if step <= LAST_FIRST_STEP]
    silent = np.full(count, bool(early))
    for units in early:
        if units is None or len(units) != count:
            return np.zeros(count, dtype=np.bool_)
        silent &= units.saturated
    return silent


def is_proof(trace: Trace, graph: Graph, site: Site, window: Window) -> bool:
    """Tell whether a window's inputs are different enough, and no selection, to call a unit dead."""
    different = different_elements(trace, graph, site, window[0], window[2].count)
    return different >= MIN_DIFFERENT and not is_selected(trace, graph, site)


def lacks_window(trace: Trace) -> str | None:
    """Return what is missing for any activation to be judged by its latest window, or None."""
    windows = [(site, window) for site in trace.of_kind(Kind.ACTIVATION) if (window := latest_window(trace, site))]
    if not windows:
        return f"{MIN_SAMPLED_STEPS} sampled steps with {MIN_ELEMENTS:,} elements of each unit of an activation"
    graph = Graph(trace)
    proven = any(is_proof(trace, graph, site, window) for site, window in windows)
    return None if proven else f"{MIN_DIFFERENT} different inputs of an activation"
