"""G001. After Bengio et al. 1994, https://doi.org/10.1109/72.279181, and Glorot and Bengio 2010."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import finite, may_pass, seen_enough, span
from unstuck.rules.wording import ratio_of
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SHRINKAGE = 200.0  # times, from the last activation to the first; in zoo/ 113 in GANs that train, 817 in faults
MAX_SLOPE = 0.08  # decades per layer; a factor of 0.83, less than a layer that keeps the gradient's scale
MIN_SITES = 4  # activation functions in a row; a slope through fewer says little

Point = tuple[Site, float, tuple[int, int]]  # site, median norm of the gradient at its output, steps


class VanishingGradients(Rule):
    """The gradient fades on its way back, so that the first layers get next to none of it.

    ## What it does
    Follows each chain of activation functions from the loss back to the input, takes the norm of the gradient at each
    output (the median over the sampled steps: four of them, or every step of a shorter run), and fits a line through
    its logarithm over depth. It fires when the gradient shrinks by more than 0.08 decades per layer and by more than
    a factor of 200 over the whole chain. Norms are used since pooling and changes of width leave them alone.

    ## Why is this bad
    Layers that get a hundredth of the gradient learn a hundredth as fast under SGD. Optimizers that rescale updates
    then follow the rounding and sampling noise of such gradients.

    ## Evidence
    The shrinkage over the chain, the slope in decades per layer, the number of sites, the norms at both ends.

    ## Stays silent on
    Chains of fewer than four activation functions; sites with a residual connection around them, so also branches
    that start at zero; sites on one layer applied again and again (recurrence over time); leading sites whose
    gradient is exactly zero (G004); frozen networks, which have no gradient. Ratios of updates between layers are not
    used: they also follow from per-layer learning rates and from the optimizer (U003).

    ## Example
        for layer in layers:            # ten times, with default initialisation
            x = torch.sigmoid(layer(x))  # the derivative is at most 0.25

    ## Fix
    Initialise with the gain of the function, put a normalisation layer before it, add skip connections, or use a
    function whose slope is near one. `rescale-weights` scales the initial weights by what the layers give.

    ## References
    - Learning long-term dependencies with gradient descent is difficult, https://doi.org/10.1109/72.279181
    - Understanding the difficulty of training deep feedforward neural networks,
      https://proceedings.mlr.press/v9/glorot10a.html
    """

    code = "G001"
    name = "vanishing-gradients"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.ACTIVATIONS, Signal.OUTPUT_GRADIENTS)
    explains = ("G004", "G006", "L013", "U002", "U003")
    fixes = ("rescale-weights",)
    max_shrinkage = Threshold(MAX_SHRINKAGE, "times, over a chain")
    max_slope = Threshold(MAX_SLOPE, "decades per layer")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each chain; chains that begin at the same site count once."""
        reported: set[int] = set()
        for chain in chains(trace):
            points = [point for site in chain for point in [_point(trace, site)] if point]
            while points and points[0][1] == 0.0:
                points.pop(0)
            if len(points) < MIN_SITES or any(norm == 0.0 for _, norm, _ in points):
                continue
            slope = float(np.polyfit(np.arange(len(points)), [math.log10(norm) for _, norm, _ in points], 1)[0])
            shrinkage = 10.0 ** min(slope * (len(points) - 1), 300.0)
            if slope > self.max_slope and shrinkage > self.max_shrinkage and points[0][0].index not in reported:
                reported.add(points[0][0].index)
                yield self._report(points, slope, shrinkage)

    def _report(self, points: list[Point], slope: float, shrinkage: float) -> Finding:
        (first, first_norm, steps), (last, last_norm, _) = points[0], points[-1]
        return self.finding(
            first,
            steps=steps,
            measured=shrinkage,
            threshold=self.max_shrinkage,
            unit="1",
            message=(
                f"gradients shrink {ratio_of(shrinkage)}-fold over the {len(points)} activation functions from "
                f"{last.label} back to {first.label}, {slope:.2f} decades per layer; "
                f"{self.max_shrinkage:.0f}-fold is the limit"
            ),
            evidence=(
                Evidence("slope", slope, "decades per layer"),
                Evidence("activation functions", float(len(points))),
                Evidence("norm of the gradient at the first", first_norm),
                Evidence("norm of the gradient at the last", last_norm),
            ),
        )


def chains(trace: Trace) -> Iterator[list[Site]]:
    """Yield chains of activation sites, each feeding the next over any distance, from input to loss."""
    graph = Graph(trace)
    sites = [site for site in trace.of_kind(Kind.ACTIVATION) if not graph.bypassed(site)]
    covered: set[int] = set()
    for end in reversed(sites):
        if end.index in covered:
            continue
        chain = [end]
        while above := [site for site in sites if site.index in graph.upstream(chain[-1].index)]:
            chain.append(above[-1])
        covered.update(site.index for site in chain)
        yield _without_recurrence(trace, chain)[::-1]


def _without_recurrence(trace: Trace, chain: list[Site]) -> list[Site]:
    """Drop the sites whose layer has a later site in the chain (listed first) already."""
    kept, seen = [], set[int]()
    for site in chain:
        used = {p for layer in trace.producers(site, direct=False) for p in layer.parameters}
        if not used & seen:
            kept.append(site)
        seen |= used
    return kept


def _point(trace: Trace, site: Site) -> Point | None:
    steps, norms = finite(trace.series(site, Role.OUTPUT_GRADIENT, "norm"))
    if not len(steps) or not seen_enough(trace, len(steps)) or may_pass(trace, len(steps)):
        return None
    return site, float(np.median(norms)), span(steps)
