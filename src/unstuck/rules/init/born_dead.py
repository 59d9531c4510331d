"""I007. After Lu et al. 2019, section 3, https://arxiv.org/abs/1903.06733."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.shown import MIN_DIFFERENT, different_elements, is_selected
from unstuck.stats.summary import UnitSummary
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_DEAD = 25.0  # % of a site's units; He-initialised ReLU networks on N(0, 1) inputs stay below 5 %, a default linear
# layer on the small state of a GRU had 22 %, and trained well
# working programs in zoo/ have up to 44 % silent units, 0.15 below at the most (default biases), faulty ones 4 to 28
FAR = 0.5  # below the responsive interval, of pre-activations
MIN_DEAD_UNITS = 3  # units, as for A002
LAST_STEP = 4  # step; a unit is born dead when it responds to nothing up to here
MIN_ELEMENTS = 300  # elements of each unit; a unit active for 1 % of them is seen with 95 % certainty

Window = tuple[tuple[int, int], UnitSummary]


class BornDead(Rule):
    """Many units respond to nothing from the first step on.

    ## What it does
    Counts the units of each one-sided activation function (ReLU and its kin) whose pre-activations lay outside the
    responsive interval, by more than 0.5, for every element of steps 0 to 4, of which there must be 300. It fires when
    at least three units and at least 25 % of a site's are so, but not all of them (A003).

    ## Why is this bad
    Nothing has killed these units: they were built that way, by a bias, a shift or weights that put their threshold
    outside the data. They pass no gradient to their weights, so the layer is narrower than it looks, from the start.

    ## Evidence
    The number of units and of those born dead, and the elements seen of each unit.

    ## Stays silent on
    Zeros as such: a healthy ReLU gives 50 to 80 %. Units that small inputs leave just below the interval, where a
    default bias has put them: they wake as the layers below learn. Functions that flatten on both sides (A001); an
    activation that feeds nothing but the loss; data of fewer than a hundred different rows; experts that a router shows
    a part of each batch; runs that loaded weights.

    ## Example
        layer.bias.copy_(mean / std)  # where -mean / std would centre the pre-activations

    ## Fix
    Start biases at zero, draw thresholds within the range of the data, and check the sign of shifts.
    `zero-dead-biases` sets the biases of dead units by what they are given.

    ## References
    - Dying ReLU and Initialization, https://arxiv.org/abs/1903.06733
    - All you need is a good init, https://arxiv.org/abs/1511.06422
    """

    code = "I007"
    name = "born-dead"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.ACTIVATIONS)
    explains = ("A002", "A007", "G001", "G004", "L013", "U003")
    fixes = ("zero-dead-biases",)
    max_dead = Threshold(MAX_DEAD, "% of a site's units")
    min_dead_units = Threshold(float(MIN_DEAD_UNITS), "units")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough different inputs in the first steps."""
        if missing := super().lacking(trace):
            return missing
        graph = Graph(trace)
        if any(_first_window(trace, graph, site) for site in trace.of_kind(Kind.ACTIVATION)):
            return None
        return (
            f"{MIN_ELEMENTS} elements of each unit of an activation in steps 0 to {LAST_STEP}, {MIN_DIFFERENT} unlike"
        )

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each one-sided activation site by the first steps."""
        if trace.facts.weights_loaded:
            return
        graph = Graph(trace)
        for site in trace.of_kind(Kind.ACTIVATION):
            window = _first_window(trace, graph, site)
            if window is not None and not site.bounded and not graph.feeds_only_loss(site):
                yield from self._judge(site, *window)

    def _judge(self, site: Site, steps: tuple[int, int], units: UnitSummary) -> Iterator[Finding]:
        nearest = site.interval[0] - units.maximum if site.interval else np.zeros(len(units))
        dead = int((units.saturated & (nearest > FAR)).sum())
        measured = 100.0 * dead / len(units)
        if dead < self.min_dead_units or measured < self.max_dead or dead == len(units):
            return
        yield self.finding(
            site,
            steps=steps,
            measured=measured,
            threshold=self.max_dead,
            unit="%",
            message=(
                f"{dead} of {len(units)} units of {site.label} ({measured:.0f} %) respond to nothing from the start, "
                f"to none of {units.count:,} elements; below {self.max_dead:.0f} % is healthy"
            ),
            evidence=(
                Evidence("units born dead", float(dead), "units"),
                Evidence("units", float(len(units)), "units"),
                Evidence("elements of each unit", float(units.count)),
            ),
        )


def _first_window(trace: Trace, graph: Graph, site: Site) -> Window | None:
    """Return the first and last of the first steps, and the units over them, or None where they do not suffice."""
    early = [(step, s.units) for step, s in trace.summaries(site, Role.INPUT) if step <= LAST_STEP]
    if not early or early[0][0] != 0 or early[0][1] is None:
        return None
    merged = early[0][1]
    for _, units in early[1:]:
        if units is None or len(units) != len(merged):
            return None
        merged = merged.merge(units)
    steps = (0, early[-1][0])
    enough = merged.count >= MIN_ELEMENTS
    if not enough or different_elements(trace, graph, site, steps, merged.count) < MIN_DIFFERENT:
        return None
    return None if is_selected(trace, graph, site) else (steps, merged)
