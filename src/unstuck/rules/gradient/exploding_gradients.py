"""G002. After Pascanu et al. 2013, https://proceedings.mlr.press/v28/pascanu13.html, and Yang et al. 2019."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import finite, seen_enough, span
from unstuck.rules.wording import ratio_of
from unstuck.trace import Kind, Location, Role, Signal, Site, Trace

MAX_GROWTH = 100.0  # times, from the last weight layer to the first
MAX_SLOPE = 0.06  # decades per layer; batch norm with ReLU has 0.083, https://openreview.net/forum?id=SyMDXnCcF7
MIN_SITES = 5  # weight layers in a row; with fewer a single one may make up the growth
LAST_FIRST_STEP = 4  # step; batch norm's explosion halves within ten updates (own runs, 12 layers)
STEADY_SHARE = 0.5  # of MAX_SLOPE that the median layer must have, so that one large factor is no explosion

Point = tuple[Site, float, tuple[int, int]]  # site, median norm of the gradient at its output, steps


class ExplodingGradients(Rule):
    """The gradient grows on its way back, so that the first layers get far more of it than the last.

    ## What it does
    Follows each chain of weight layers from the loss back to the input, takes the norm of the gradient at each output
    (the median over the sampled steps: four of them, or every step of a shorter run; and that over steps 0 to 4, since
    a network that trains at all adapts), and fits a line through its logarithm over depth. It fires when the gradient
    grows by more than 0.06 decades per layer, by more than half of that at the median layer, and by more than a factor
    of 100 over the whole chain. It points at the line whose layers make up most of the growth. Which functions stand
    between the layers does not matter.

    ## Why is this bad
    No learning rate serves both ends: one small enough for the first layers leaves the last ones where they are, and
    the loss is so rough in the first layers' weights that a step in the direction of the gradient need not lower it.

    ## Evidence
    The growth over the chain, the slope in decades per layer, the number of layers, the norms at both ends.

    ## Stays silent on
    Chains of fewer than five weight layers; layers with a residual connection around them; one layer applied again and
    again (S004); single large factors; gradients that AMP has scaled, which are read without the scale; growth over
    the course of a run, which in healthy runs follows from rewards found late or layers that start at zero (a loss
    that diverges is L012).

    ## Example
        nn.init.uniform_(layer.weight, -math.sqrt(6 / n), math.sqrt(6 / n))
        x = torch.sin(30 * layer(x))  # the bound needs to be divided by 30

    ## Fix
    Initialise with the gain of the function, add skip connections (batch normalisation without them makes gradients
    grow by a factor of 1.2 per layer), or clip gradients. `rescale-weights` evens the scales of the layers.

    ## References
    - On the difficulty of training recurrent neural networks, https://proceedings.mlr.press/v28/pascanu13.html
    - A mean field theory of batch normalization, https://openreview.net/forum?id=SyMDXnCcF7
    """

    code = "G002"
    name = "exploding-gradients"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS, Signal.OUTPUT_GRADIENTS)
    explains = ("G005", "G007", "L011", "L012", "L013", "L014", "U001", "U003")
    fixes = ("rescale-weights",)
    max_growth = Threshold(MAX_GROWTH, "times, over a chain")
    max_slope = Threshold(MAX_SLOPE, "decades per layer")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each chain; chains that begin at the same layer count once."""
        reported: set[int] = set()
        for chain in chains(trace):
            for last_step in (None, LAST_FIRST_STEP):
                points = [point for site in chain for point in [_point(trace, site, last_step)] if point]
                if points and points[0][0].index not in reported and (finding := self._judge(trace, points)):
                    reported.add(points[0][0].index)
                    yield finding

    def _judge(self, trace: Trace, points: list[Point]) -> Finding | None:
        if len(points) < MIN_SITES or any(norm == 0.0 for _, norm, _ in points):
            return None
        logs = np.array([math.log10(norm) for _, norm, _ in points])
        slope = -float(np.polyfit(np.arange(len(points)), logs, 1)[0])
        growth = 10.0 ** min(slope * (len(points) - 1), 300.0)
        steady = float(np.median(-np.diff(logs))) > STEADY_SHARE * self.max_slope
        explodes = slope > self.max_slope and growth > self.max_growth and steady
        if not explodes:
            return None
        normed = any(s.kind is Kind.NORM for site, _, _ in points for s in trace.consumers(site, direct=False))
        return self._report(points, logs, slope, growth, () if normed else self.fixes)  # a norm undoes any scale

    def _report(
        self, points: list[Point], logs: np.ndarray, slope: float, growth: float, fixes: tuple[str, ...]
    ) -> Finding:
        (first, first_norm, steps), (last, last_norm, _) = points[0], points[-1]
        return self.finding(
            _culprit([site for site, _, _ in points], logs),
            steps=steps,
            measured=growth,
            threshold=self.max_growth,
            unit="1",
            message=(
                f"gradients grow {ratio_of(growth)}-fold over the {len(points)} weight layers from {last.label} back "
                f"to {first.label}, {slope:.2f} decades per layer; {self.max_growth:.0f}-fold is the limit"
            ),
            evidence=(
                Evidence("slope", slope, "decades per layer"),
                Evidence("weight layers", float(len(points))),
                Evidence("norm of the gradient at the first", first_norm),
                Evidence("norm of the gradient at the last", last_norm),
            ),
            fixes=fixes,
        )


def _culprit(sites: list[Site], logs: np.ndarray) -> Site:
    """Return the first site of the line through whose layers the gradient grows most on its way back."""
    growth: dict[Location | None, float] = defaultdict(float)
    for site, gain in zip(sites[1:], -np.diff(logs), strict=True):
        growth[site.location] += float(gain)
    worst = max(growth, key=lambda location: round(growth[location], 2))  # the first of equals
    return next(site for site in sites[1:] if site.location == worst)


def chains(trace: Trace) -> Iterator[list[Site]]:
    """Yield chains of weight layers, each feeding the next over any distance, from input to loss."""
    graph = Graph(trace)
    sites = [site for site in trace.of_kind(Kind.WEIGHT_LAYER) if not graph.bypassed(site)]
    covered: set[int] = set()
    for end in reversed(sites):
        if end.index in covered:
            continue
        chain, used = [end], set(end.parameters)
        covered.add(end.index)
        while above := [site for site in sites if site.index in graph.upstream(chain[-1].index)]:
            covered.add(above[-1].index)
            if used & set(above[-1].parameters):
                break  # one layer again and again: a recurrence
            chain.append(above[-1])
            used |= set(above[-1].parameters)
        yield chain[::-1]


def _point(trace: Trace, site: Site, last_step: int | None) -> Point | None:
    steps, norms = finite(trace.series(site, Role.OUTPUT_GRADIENT, "norm"))
    if last_step is not None:
        steps, norms = steps[steps <= last_step], norms[steps <= last_step]
    if not len(steps) or not seen_enough(trace, len(steps)):
        return None
    return site, float(np.median(norms)), span(steps)
