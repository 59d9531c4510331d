"""What the charts show: numbers of a trace as rows, few enough for a page. Draws nothing."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.rules.depth import MIN_LAYERS, chains
from unstuck.rules.updates import weight_matrices
from unstuck.stats.summary import BINS_PER_OCTAVE, EDGES, IntArray, TensorSummary
from unstuck.trace import Kind, Role, Site, Trace
from unstuck.trace.trace import Series

Rows = list[dict[str, Any]]

MAX_SITES = 300  # of one chart; the first ones in order of execution
MAX_STEPS = 100  # columns of a map, points of a line
MAX_FRAMES = 40  # steps of a slider, columns of a map of units
MAX_UNITS = 128  # rows of a map of units: the dead ones, and others evenly chosen from all
MAX_POINTS = 400  # of the loss; each stands for the steps up to the next one
GROWING = 120  # of them, for the early part, where a point stands for fewer steps than later: `_parts`
BINS = 41  # of a histogram; odd, so that zero lies in the middle of one
MAX_NAME = 60  # characters of a place's name
FIRST = 10  # sampled steps at the start that are always shown
TAIL = 0.005  # share of the values that a histogram leaves out on each side

_POINTS = np.concatenate([-EDGES[::-1], EDGES])


@dataclass(frozen=True)
class Histogram:
    """The values of one place at several steps.

    `shares[k]` has the share of the elements in each bin at `steps[k]`, shape (bins,); `edges`, (bins + 1,), are
    values, or their decimal logarithms. `notes[k]` says of that step what the bins do not. `interval` is the
    responsive one.
    """

    site: Site
    name: str
    edges: npt.NDArray[np.float64]
    steps: tuple[int, ...]
    shares: npt.NDArray[np.float64]
    notes: tuple[str, ...]
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class UnitMap:
    """Which share of each unit's elements was saturated: `shares`, shape (units shown, steps), NaN where unknown.

    `dead` of the `total` units were wholly saturated at every step shown.
    """

    site: Site
    name: str
    steps: tuple[int, ...]
    units: tuple[int, ...]
    total: int
    dead: int
    shares: npt.NDArray[np.float64]

    @property
    def note(self) -> str:
        """How many units are dead, and which are shown."""
        said = f"{self.dead:,} of {self.total:,} units {outside(self.site)} at every step shown"
        if len(self.units) == self.total:
            return said
        which = ", every dead one among them" if 0 < self.dead <= MAX_UNITS else ""
        return f"{said}; {len(self.units)} units shown{which}"


def outside(site: Site) -> str:
    """Return what an element outside the responsive interval is: "saturated", or of a rectifier "switched off"."""
    return "switched off" if is_rectifier(site) else "saturated"


def is_rectifier(site: Site) -> bool:
    """Tell whether an activation function passes one side and switches the other off, as ReLU and its smooth kin do.

    ReLU6 is one as well: its responsive interval begins right above zero.
    """
    low, high = site.interval or (-math.inf, math.inf)
    return math.isfinite(low) != math.isfinite(high) or 0 <= low < high < math.inf


def shorten(text: str, most: int = MAX_NAME) -> str:
    """Return text of at most so many characters on one line, its end shown too."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 20]}…{text[-19:]}"


def names(trace: Trace) -> dict[int, str]:
    """Return a short name for each site, by index; places with one label are told apart by line, then by number."""
    found = {
        site.index: shorten(site.label) + (" in evaluation" if site.kind is Kind.EVALUATION else "")
        for site in trace.sites
    }
    where = {site.index: f" · {shorten(str(site.location), 40)}" for site in trace.sites if site.location}
    for suffixes in (where, {site.index: f" [{site.index}]" for site in trace.sites}):
        count = Counter(found.values())
        found = {k: name + (suffixes.get(k, "") if count[name] > 1 else "") for k, name in found.items()}
    return found


def shown_steps(steps: list[int], most: int) -> list[int]:
    """Return at most so many of the steps: the first few, then evenly chosen ones, the last among them."""
    first = min(FIRST, most // 2)
    if len(steps) <= most:
        return list(steps)
    later = steps[first:]
    chosen = np.unique(np.linspace(0, len(later) - 1, most - first).round().astype(int))
    return [*steps[:first], *(later[k] for k in chosen)]


def activations(trace: Trace) -> list[Site]:
    """Return the activation functions whose inputs were measured, at most `MAX_SITES`."""
    return _measured(trace, trace.of_kind(Kind.ACTIVATION), Role.INPUT)[:MAX_SITES]


def left_out(trace: Trace, name: str) -> str:
    """Say of the chart `name` how many places are beyond `MAX_SITES`; "" where all are shown."""
    kinds = {"activations": (Kind.ACTIVATION, Role.INPUT), "gradients": (Kind.PARAMETER, Role.GRADIENT)}
    kinds |= dict.fromkeys(("saturation", "dead-units"), kinds["activations"])
    kinds |= {"depth": (Kind.WEIGHT_LAYER, Role.OUTPUT)}
    if name in kinds:
        kind, role = kinds[name]
        count = len(_measured(trace, trace.of_kind(kind), role))
    elif name == "updates":
        count = len(list(weight_matrices(trace)))
    else:
        return ""
    return (
        f"The first {MAX_SITES} of {count:,} places, in the order of execution, are shown." if count > MAX_SITES else ""
    )


def _measured(trace: Trace, sites: list[Site], role: Role) -> list[Site]:
    return [site for site in sites if trace.steps_of(site, role)]


# -- the loss ---------------------------------------------------------------------------------------------------------


def loss(trace: Trace) -> Rows:
    """Return rows of step, mean, low and high of the finite losses; with `infinite`, how many were not.

    The first `FIRST` steps have a row each, later rows stand for more and more steps: the start is what a loss curve is
    most often asked about, and a mean over it would hide the first loss.
    """
    values = sorted(trace.objective.items())
    rows: Rows = []
    for begin, end in _parts(len(values)):
        part = values[begin:end]
        finite = [value for _, value in part if math.isfinite(value)]
        row: dict[str, Any] = {"step": part[0][0], "infinite": len(part) - len(finite)}
        if finite:
            row |= {"loss": math.fsum(finite) / len(finite), "low": min(finite), "high": max(finite)}
        rows.append(row)
    return rows


def _parts(count: int) -> list[tuple[int, int]]:
    """Cut so many values into at most `MAX_POINTS` parts: one each at the start, then growing as the logarithm does.

    A part that begins at k has k / `FIRST` values, and no more than all later ones have: up to there that takes `FIRST`
    times a harmonic number, less than `GROWING` parts more up to ten million values.
    """
    most = 1 if count <= MAX_POINTS else math.ceil(count / (MAX_POINTS - GROWING))
    begins = [0]
    while begins[-1] < count:
        begins.append(min(count, begins[-1] + min(most, max(1, begins[-1] // FIRST))))
    return list(itertools.pairwise(begins))


# -- histograms -------------------------------------------------------------------------------------------------------


def activation_histogram(trace: Trace, site: Site, name: str, step: int | None = None) -> Histogram:
    """Return the inputs of an activation function: bins of equal width over all but the outermost values.

    It has at most `MAX_FRAMES` of the sampled steps, and `step` if that was sampled.
    """
    found = _frames(trace, site, Role.INPUT, step)
    merged = TensorSummary.empty()
    for _, summary in found:
        merged = merged.merge(summary)
    low, high = _range(merged, site.interval)
    edges = np.linspace(low, high, BINS + 1)
    shares = np.array([_linear(summary, edges) / max(1, summary.count) for _, summary in found])
    notes = [_percent(s.outside_fraction, outside(site)) + _nonfinite(s) for _, s in found]
    return Histogram(site, name, edges, tuple(step for step, _ in found), shares, tuple(notes), site.interval)


def gradient_histogram(trace: Trace, site: Site, name: str, step: int | None = None) -> Histogram:
    """Return the gradients of a parameter: one bin an octave of their size, edges as decimal logarithms.

    It has at most `MAX_FRAMES` of the sampled steps, and `step` if that was sampled.
    """
    found = _frames(trace, site, Role.GRADIENT, step)
    octaves = np.array([s.histogram.sum(0)[1:-1].reshape(-1, BINS_PER_OCTAVE).sum(1) for _, s in found], dtype=float)
    filled = np.flatnonzero(octaves.sum(0))
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)
    edges = np.log10(EDGES[::BINS_PER_OCTAVE])[first : last + 1]
    shares = octaves[:, first:last] / np.array([max(1, s.count) for _, s in found])[:, None]
    notes = [
        (f"rms {s.rms:.2g}" if s.finite else "") + (_percent(s.zero_fraction, ", exactly 0:", True)) + _nonfinite(s)
        for _, s in found
    ]
    return Histogram(site, name, edges, tuple(step for step, _ in found), shares, tuple(notes))


def gradient_sites(trace: Trace) -> list[Site]:
    """Return the parameters whose gradients were measured, at most `MAX_SITES`."""
    return _measured(trace, trace.of_kind(Kind.PARAMETER), Role.GRADIENT)[:MAX_SITES]


def _frames(trace: Trace, site: Site, role: Role, also: int | None = None) -> list[tuple[int, TensorSummary]]:
    known = trace.steps_of(site, role)
    steps = {*shown_steps(known, MAX_FRAMES), *(step for step in known if step == also)}
    found = [(step, trace.summary(site, role, step)) for step in sorted(steps)]
    return [(step, summary) for step, summary in found if summary is not None]


def _range(merged: TensorSummary, interval: tuple[float, float] | None) -> tuple[float, float]:
    low, high = -1.0, 1.0
    if merged.finite:
        low, high = -_bin_end(-merged.quantile(TAIL)), _bin_end(merged.quantile(1 - TAIL))
    reach = max(abs(low), abs(high))
    for end in interval or ():
        if math.isfinite(end) and abs(end) < 10 * reach:  # far smaller values are shown by themselves
            low, high = min(low, 1.15 * end), max(high, 1.15 * end)
    if high - low <= 1e-6 * max(reach, 1e-30):
        low, high = low - max(reach, 1e-6) / 2, high + max(reach, 1e-6) / 2
    return low, high


def _bin_end(value: float) -> float:
    """Return the upper edge of the octave bin that a value is in, so that no part of the bin is left out."""
    edges = EDGES if value >= 0 else -EDGES[::-1]
    return float(edges[min(int(np.searchsorted(edges, value, side="right")), len(edges) - 1)])


def _linear(summary: TensorSummary, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spread octave bins over bins of equal width, each evenly over its own width; what is too small is zero."""
    negative, positive = summary.histogram
    between = np.concatenate([negative[-2:0:-1], [0], positive[1:-1]])
    below = np.concatenate([[0], np.cumsum(between)]) + negative[-1]
    counted: npt.NDArray[np.float64] = np.diff(np.interp(edges, _POINTS, below))
    middle = int(np.searchsorted(edges, 0.0, side="right")) - 1
    if 0 <= middle < len(counted):
        counted[middle] += summary.zeros + negative[0] + positive[0]
    return counted


def _percent(share: float, what: str, before: bool = False) -> str:
    if not math.isfinite(share) or (before and not share):
        return ""
    return f"{what} {share:.1%}" if before else f"{share:.1%} {what}"


def _nonfinite(summary: TensorSummary) -> str:
    return f", {summary.nonfinite:,} NaN or infinite" if summary.nonfinite else ""


# -- maps -------------------------------------------------------------------------------------------------------------


def saturation(trace: Trace) -> Rows:
    """Return rows of place, order, step and the share of saturated elements; `switch`: of those a rectifier has off."""
    called, rows = names(trace), []
    steps = set(shown_steps(trace.steps, MAX_STEPS))
    for order, site in enumerate(activations(trace)):
        for step, share in zip(*_listed(trace.series(site, Role.INPUT, "outside_fraction")), strict=True):
            if step in steps and math.isfinite(share):
                row = {"place": called[site.index], "order": order, "step": step, "share": round(share, 4)}
                rows.append({**row, "switch": is_rectifier(site)})
    return rows


def unit_map(trace: Trace, site: Site, name: str) -> UnitMap | None:
    """Return which units of an activation function were saturated; None when its units were never told apart."""
    frames = [(step, s.units) for step, s in _frames(trace, site, Role.INPUT) if s.units is not None]
    if not frames:
        return None
    total = len(frames[0][1])
    frames = [(step, units) for step, units in frames if len(units) == total and units.count]
    if not frames or not total:
        return None
    shares = np.array([units.outside / units.count for _, units in frames]).T
    dead = (shares == 1.0).all(1)
    chosen = _evenly(np.flatnonzero(dead), MAX_UNITS)
    chosen = np.sort(np.append(chosen, _evenly(np.flatnonzero(~dead), MAX_UNITS - len(chosen))))
    steps = tuple(step for step, _ in frames)
    return UnitMap(site, name, steps, tuple(chosen.tolist()), total, int(dead.sum()), shares[chosen].round(3))


def _evenly(found: IntArray, most: int) -> IntArray:
    """Return at most so many of the values, at even distances, the first and the last among them."""
    places: IntArray = np.linspace(0, len(found) - 1, min(len(found), most)).round().astype(np.int64)
    return found[np.unique(places)]


# -- lines ------------------------------------------------------------------------------------------------------------


def updates(trace: Trace) -> Rows:
    """Return rows of place, order, step and the decimal logarithm of update-to-data, of weight matrices."""
    called, rows = names(trace), []
    for order, site in enumerate(list(weight_matrices(trace))[:MAX_SITES]):
        steps, ratios = _listed(trace.update_to_data(site))
        known = {step: ratio for step, ratio in zip(steps, ratios, strict=True) if ratio > 0 and math.isfinite(ratio)}
        for step in shown_steps(list(known), MAX_STEPS):
            row = {
                "place": called[site.index],
                "order": order,
                "step": step,
                "log10": round(math.log10(known[step]), 3),
            }
            rows.append(row)
    return rows


def depth(trace: Trace) -> Rows:
    """Return rows of place, depth, way (forward, backward), when (first, last), step, log10 of the standard deviation.

    Where that is no number, log10 is None and `missing` says why: "0", "not finite", or "not measured".
    """
    called, rows = names(trace), []
    layers = _measured(trace, trace.of_kind(Kind.WEIGHT_LAYER), Role.OUTPUT)[:MAX_SITES]
    for way, role in (("forward", Role.OUTPUT), ("backward", Role.OUTPUT_GRADIENT)):
        found = [list(zip(*_listed(trace.series(site, role, "std")), strict=True)) for site in layers]
        for number, (site, known) in enumerate(zip(layers, found, strict=True), 1):
            place = {"place": called[site.index], "depth": number, "way": way}
            for when, (step, std) in zip(("first", "last"), (known[:1] + known[-1:]), strict=False):
                rows.append({**place, "when": when, "step": step, **_logarithm(std)})
            if not known and any(found):
                rows.append({**place, "when": "first", "step": None, "log10": None, "missing": "not measured"})
    return rows


def _logarithm(std: float) -> dict[str, Any]:
    if std > 0 and math.isfinite(std):
        return {"log10": round(math.log10(std), 3)}
    return {"log10": None, "missing": "0" if std == 0 else "not finite"}


def depth_slopes(trace: Trace) -> list[str]:
    """Return, for each chain of plain layers, how its scale changes at the start, forward and backward, in words."""
    called = names(trace)
    said = []
    for chain in chains(trace):
        first, last = (called[layer.index] for layer in (chain.layers[0], chain.layers[-1]))
        said.append(_slope("forward", first, last, chain.slope, len(chain.layers)))
        gradients = [trace.summary(layer, Role.OUTPUT_GRADIENT, 0) for layer in chain.layers]
        stds = [0.0 if s is None or s.nonfinite else s.std for s in gradients]
        known = [(k, math.log10(std)) for k, std in enumerate(stds) if std > 0 and math.isfinite(std)]
        if len(known) >= MIN_LAYERS:  # a decade a layer back is one less a layer on
            slope = -float(np.polyfit([k for k, _ in known], [log10 for _, log10 in known], 1)[0])
            said.append(_slope("backward", last, first, slope, len(known)))
    return said


def _slope(way: str, begin: str, end: str, slope: float, layers: int) -> str:
    return f"{way} at the start, {begin} to {end}: depth slope {decades(slope)} decades a layer over {layers} layers"


def decades(slope: float) -> str:
    """Return a depth slope with its sign, to three decimals; what rounds to nothing has the sign of nothing."""
    return f"{round(slope, 3) + 0.0:+.3f}"


def batch_norms(trace: Trace) -> Rows:
    """Return rows of place, order, step, what (mean, variance) and the distance of a batch from running statistics."""
    called, rows = names(trace), []
    sites = [site for site in trace.of_kind(Kind.NORM, Kind.EVALUATION) if trace.scalars(site, "mean_shift")]
    for order, site in enumerate(sites[:MAX_SITES]):
        for what, name in (("mean", "mean_shift"), ("variance", "variance_ratio")):
            known = {step: value for step, value in trace.scalars(site, name) if math.isfinite(value)}
            for step in shown_steps(list(known), MAX_STEPS):
                value = float(f"{known[step]:.4g}")
                row = {"place": called[site.index], "order": order, "step": step, "what": what, "value": value}
                rows.append(row)
    return rows


def _listed(series: Series) -> tuple[list[int], list[float]]:
    return series[0].tolist(), series[1].tolist()
