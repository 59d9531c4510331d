"""How a recurrence passes gradients back through time, whichever way it is written."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.rules.graph import Graph
from unstuck.trace import Kind, Role, Site, Trace

MIN_STEPS = 16  # time steps; fewer make no rate
MIN_FIT = 0.8  # share of the variance (1) that a straight line through log(gradient) over time must explain
ENDS = 3  # time steps at each end of a sequence that are compared (their median)
TINY = 1e-300  # a gradient (1) that has underflowed; its logarithm is finite

Vector = npt.NDArray[np.float64]


@dataclass
class Recurrence:
    """A layer applied again and again; per sampled step, in order: time steps, growth and what was kept.

    `growth` is the factor (1) by which a gradient changes in one time step on its way back, `kept` the factor over the
    whole sequence. `whole` tells that `kept` comes from the loss's own gradient, so that it is small only where
    nothing but the end of the sequence feeds the loss.
    """

    site: Site
    whole: bool
    steps: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)

    def add(self, step: int, length: int, growth: float, kept: float) -> None:
        """Enter one sampled step."""
        self.steps.append(step)
        self.lengths.append(length)
        self.growth.append(growth)
        self.kept.append(kept)


def recurrences(trace: Trace) -> Iterator[Recurrence]:
    """Yield fused recurrent layers, then loops, each of the latter by the first of its layers in the circle."""
    for site in trace.of_kind(Kind.RECURRENT):
        fused = Recurrence(site, whole=False)
        for step, kept in trace.scalars(site, "state_kept"):
            length, growth = trace.scalar(site, "state_steps", step), trace.scalar(site, "state_growth", step)
            if length is not None and growth is not None:
                fused.add(step, int(length), growth, kept)
        if fused.steps:
            yield fused
    yield from _loops(trace)


def _loops(trace: Trace) -> Iterator[Recurrence]:
    found: dict[tuple[str, int], Recurrence] = {}
    places = list(_repeated(trace))
    graph = Graph(trace) if places else None
    for sites in places:
        loop = Recurrence(sites[0], whole=True)
        for step, gradients in _gradients(trace, sites):
            if len(gradients) >= MIN_STEPS and (rates := rate(gradients)) is not None:
                loop.add(step, len(gradients), *rates)
        place = sites[0].location.function if sites[0].location else ""
        if loop.steps and graph is not None and _is_circle(graph, sites):
            found.setdefault((place, loop.lengths[0]), loop)
    yield from found.values()


def _repeated(trace: Trace) -> Iterator[list[Site]]:
    """Yield the sites of each place that is passed often: one with many calls, or many on one line, in order."""
    lines: dict[tuple[object, ...], list[Site]] = defaultdict(list)
    for site in trace.of_kind(Kind.WEIGHT_LAYER, Kind.RECURRENT):
        if site.parameters:
            lines[site.path, site.op, site.location, site.parameters].append(site)
    for sites in lines.values():
        if len(sites) >= MIN_STEPS or trace.vectors(sites[0], "gradient_by_call"):
            yield sites


def _gradients(trace: Trace, sites: list[Site]) -> Iterator[tuple[int, Vector]]:
    """Yield (step, rms of the gradient at each call's output in order of execution), where all are finite."""
    if len(sites) < MIN_STEPS:
        for step, values in trace.vectors(sites[0], "gradient_by_call"):
            if np.isfinite(values).all():
                yield step, values
        return
    by_step: dict[int, list[float]] = defaultdict(list)
    for site in sites:
        steps, values = trace.series(site, Role.OUTPUT_GRADIENT, "rms")
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            by_step[step].append(value)
    for step, each in sorted(by_step.items()):
        if all(math.isfinite(value) for value in each):
            yield step, np.array(each)


def rate(gradients: Vector) -> tuple[float, float] | None:
    """Return (factor a time step, factor over all) by which gradients change on their way back; None without any.

    The factor a time step is 1 where no straight line fits the logarithms.
    """
    last = float(np.median(gradients[-ENDS:]))
    if last <= 0:
        return None
    kept = float(np.median(gradients[:ENDS])) / last
    logs, time = np.log(np.maximum(gradients, TINY)), np.arange(len(gradients))
    spread = float(logs.var())
    if spread == 0.0:
        return 1.0, kept
    slope = float(np.polyfit(time, logs, 1)[0])
    explained = slope * slope * float(time.var()) / spread
    return (math.exp(min(700.0, -slope)) if explained >= MIN_FIT else 1.0), kept


def _is_circle(graph: Graph, sites: list[Site]) -> bool:
    """Tell whether what a place makes comes back to it; a cell takes its own state by definition."""
    if len(sites) == 1:
        return sites[0].kind is Kind.RECURRENT or sites[0].index in graph.downstream(sites[0].index)
    return sites[0].index in graph.upstream(sites[1].index)
