"""Whether what a site was shown can prove that a unit is dead: different inputs, and not a selection of them."""

from __future__ import annotations

import numpy as np

from unstuck.rules.graph import Graph
from unstuck.trace import Role, Site, Trace

MIN_DIFFERENT = 100  # elements of each unit; of 2 to 4 features' random hyperplanes, 28 % have ten points on one side


def different_elements(trace: Trace, graph: Graph, site: Site, steps: tuple[int, int], count: int) -> float:
    """Return how many different elements a unit was shown in `count` elements of the steps from first to last.

    Judged by the share of different rows in the data upstream, of that layer where it is highest; all `count` where
    nothing is known of it.
    """
    first, last = steps
    shares = []
    for index in graph.upstream(site.index):
        marks = [values for step, values in trace.vectors(trace.sites[index], "row_marks") if first <= step <= last]
        if marks:
            rows = np.concatenate(marks)
            shares.append(len(np.unique(rows)) / len(rows))
    return count * max(shares, default=1.0)


def is_selected(trace: Trace, graph: Graph, site: Site) -> bool:
    """Tell whether a site is shown a selection of the batch that varies: an expert behind a router.

    Its number of elements then varies from step to step, and in proportion to that of no site upstream.
    """
    own = _counts(trace, site)
    if len(set(own.values())) < 2:
        return False
    others = [_counts(trace, trace.sites[index]) for index in graph.upstream(site.index) - {site.index}]
    ratios = [{own[step] / other[step] for step in own if other.get(step)} for other in others]
    known = [ratio for ratio in ratios if ratio]
    return bool(known) and all(len(ratio) > 1 for ratio in known)


def _counts(trace: Trace, site: Site) -> dict[int, int]:
    """Return how many elements of each unit entered a site, step by step."""
    return {step: summary.units.count for step, summary in trace.summaries(site, Role.INPUT) if summary.units}
