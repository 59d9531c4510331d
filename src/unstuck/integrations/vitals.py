"""The numbers of one sampled step under names, for whoever draws curves of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from unstuck.integrations.tables import statistic
from unstuck.stats.summary import EDGES, TensorSummary
from unstuck.trace import Kind, Role, Site, Trace

PREFIX = "unstuck"
STATISTICS = ("mean", "std", "outside_fraction")
BINS = 64  # of a histogram for a tracker whose axis is linear

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Histogram = tuple[IntArray, FloatArray]
"""Counts, shape (n,), and the edges of their bins, shape (n + 1,)."""


def vitals(trace: Trace, step: int) -> dict[str, float]:
    """Return the few numbers that tell most of a sampled step; one that was not measured is left out.

    `update_to_data` is the median over weights of rms(update) / rms(value), `saturated` the largest share of the inputs
    of an activation function outside its responsive interval, `gradient_norm` the Euclidean norm of all gradients of
    parameters together, `nonfinite` how many elements of all tensors measured were NaN or infinite.
    """
    weights = [site for site in trace.of_kind(Kind.PARAMETER) if site.slot == "weight"]
    ratios = [ratio for site in weights if (ratio := trace.update_to_data_at(site, step)) is not None]
    squares, nonfinite, outside = [], 0, []
    for site, role, summary in _measured(trace, step):
        nonfinite += summary.nonfinite
        if site.kind is Kind.PARAMETER and role is Role.GRADIENT:
            squares.append(summary.squares)
        if site.kind is Kind.ACTIVATION and role is Role.INPUT and summary.finite and site.interval is not None:
            outside.append(summary.outside_fraction)
    numbers = {
        "update_to_data": statistics.median(ratios) if ratios else math.nan,
        "saturated": max(outside, default=math.nan),
        "gradient_norm": math.sqrt(math.fsum(squares)) if squares else math.nan,
        "nonfinite": float(nonfinite),
    }
    return {f"{PREFIX}/{name}": value for name, value in numbers.items() if math.isfinite(value)}


def site_scalars(trace: Trace, step: int) -> dict[str, float]:
    """Return the statistics of each site and role at a sampled step: "unstuck/SITE/ROLE/STATISTIC" -> value."""
    numbers = {}
    for site, role, summary in _measured(trace, step):
        for which in STATISTICS:
            bounded = which != "outside_fraction" or (site.interval is not None and role is Role.INPUT)
            value = statistic(summary, which) if bounded else None
            if value is not None:
                numbers[f"{tag(site)}/{role}/{which}"] = value
    for site in trace.of_kind(Kind.PARAMETER):
        ratio = trace.update_to_data_at(site, step)
        if ratio is not None:
            numbers[f"{tag(site)}/update_to_data"] = ratio
    return numbers


def site_summaries(trace: Trace, step: int) -> dict[str, TensorSummary]:
    """Return the summaries of a sampled step that have finite elements: "unstuck/SITE/ROLE" -> summary."""
    return {f"{tag(site)}/{role}": summary for site, role, summary in _measured(trace, step) if summary.finite}


def tag(site: Site) -> str:
    """Return a site's name for a tracker, the same as in reports."""
    return f"{PREFIX}/{site.label.encode('utf-8', 'backslashreplace').decode()}"


def _measured(trace: Trace, step: int) -> Iterator[tuple[Site, Role, TensorSummary]]:
    for site in trace.sites:
        for role in Role:
            summary = trace.summary(site, role, step)
            if summary is not None:
                yield site, role, summary


def filled_bins(summary: TensorSummary) -> Histogram:
    """Return the filled part of a summary's histogram, n bins with zeros in the bin around zero.

    The outermost edges stand for what lies beyond, too. Raises ValueError where nothing is finite.
    """
    if not summary.finite:
        raise ValueError("a histogram needs finite values, and there are none")
    negative, positive = summary.histogram
    around_zero = negative[0] + summary.zeros + positive[0]
    counts = np.concatenate([negative[:0:-1], [around_zero], positive[1:]])
    lowest, highest = min(summary.minimum, -2 * EDGES[-1]), max(summary.maximum, 2 * EDGES[-1])
    edges = np.concatenate([[lowest], -EDGES[::-1], EDGES, [highest]])
    filled = np.flatnonzero(counts)
    first, last = filled[0], filled[-1] + 1
    return counts[first:last], edges[first : last + 1]


def even_histogram(summary: TensorSummary, bins: int = BINS) -> Histogram:
    """Return the histogram over `bins` bins of equal width from minimum to maximum.

    Values are taken to lie evenly within the bins of the summary, whose width is an eighth of their octave. Raises
    ValueError where nothing is finite.
    """
    counts, edges = filled_bins(summary)
    low, high = summary.minimum, summary.maximum
    if not low < high:
        low, high = low - 0.5, high + 0.5
    even = np.linspace(low, high, bins + 1)
    known = np.clip(edges, summary.minimum, summary.maximum)
    below = np.interp(even, known, np.concatenate([[0], np.cumsum(counts)]), left=0.0, right=float(summary.finite))
    below[0], below[-1] = 0, summary.finite
    return np.diff(np.rint(below).astype(np.int64)), even
