"""A003. After Lu et al. 2019, https://arxiv.org/abs/1903.06733, on networks that are dead as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.activation.dead_units import cause_is_over
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.units import Window, is_proof, lacks_window, latest_window
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_ALIVE = 1  # units; with none the layer passes nothing on
MAX_SPREAD = 1e-6  # (max - min) / max |x| of a unit over a batch; float32 keeps seven digits


class DeadLayer(Rule):
    """No unit of an activation function responds, or all give the same for every example.

    ## What it does
    Looks at the window in which A002 judges units: the latest sampled steps, at least four, with 1,000 elements of each
    unit. It fires when every unit of a function that is flat on one side (ReLU and its kin) lay outside the responsive
    interval throughout, or when, in each of these steps, every unit had one and the same pre-activation for the whole
    batch though the data differed. Of several such places in a row, the first is named.

    ## Why is this bad
    What comes after knows nothing of the input, and no gradient reaches what comes before: the network can at best
    learn the mean of the targets.

    ## Evidence
    The number of units, and the elements seen of each.

    ## Stays silent on
    An activation that feeds nothing but the loss, such as a hinge that is satisfied; data of fewer than a hundred
    different rows; experts behind a router; what is computed from parameters alone; layers with a unit left (A002).

    ## Example
        positive = F.relu(x, inplace=True)
        negative = F.relu(-x)  # of what is left, nothing is negative

    ## Fix
    Look at the sign and the scale of what enters the function, and at in-place operations before it. Where the layer
    died in training, lower the learning rate and start again; `revive-dead-units` draws its units afresh.

    ## References
    - Dying ReLU and Initialization, https://arxiv.org/abs/1903.06733
    - torch.nn.ReLU, https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html
    """

    code = "A003"
    name = "dead-layer"
    stage = Stage.ACTIVATION
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.ACTIVATIONS)
    explains = ("I007", "A002", "A007", "G001", "G004", "L013", "N009", "U002", "U003")
    fixes = ("revive-dead-units",)
    max_spread = Threshold(MAX_SPREAD, "of a unit's largest value")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs one window long enough."""
        return super().lacking(trace) or lacks_window(trace)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each activation site by its latest window, unless a dead one stands before it."""
        graph = Graph(trace)
        reported: set[int] = set()
        for site in trace.of_kind(Kind.ACTIVATION):
            window = latest_window(trace, site)
            if window is None or graph.upstream(site.index) & reported or graph.feeds_only_loss(site):
                continue
            how = self._how(trace, graph, site, window)
            if how is not None and is_proof(trace, graph, site, window):
                reported.add(site.index)
                yield self._report(trace, site, window, how)

    def _how(self, trace: Trace, graph: Graph, site: Site, window: Window) -> str | None:
        """Return in what way the layer is dead, or None."""
        (first, last), _, units = window
        if not site.bounded and bool(units.saturated.all()):
            return f"responded to any of the {units.count:,} elements"
        fed = any(trace.vectors(trace.sites[index], "row_marks") for index in graph.upstream(site.index))
        steps = [summary for step, summary in trace.summaries(site, Role.INPUT) if first <= step <= last]
        if fed and all(summary.units is not None and summary.units.count > 1 for summary in steps):
            pairs = [(s.units.minimum, s.units.maximum) for s in steps if s.units is not None and not s.nonfinite]
            same = all(
                bool(np.all(high - low <= self.max_spread * np.maximum(abs(low), abs(high)))) for low, high in pairs
            )
            if same and len(pairs) == len(steps):
                return f"told one of the {units.count:,} elements from another of its batch"
        return None

    def _report(self, trace: Trace, site: Site, window: Window, how: str) -> Finding:
        steps, sampled, units = window
        return self.finding(
            site,
            steps=steps,
            measured=0.0,
            threshold=float(MIN_ALIVE),
            unit="units",
            message=f"none of the {len(units)} units of {site.label} {how} of steps {steps[0]} to {steps[1]}",
            evidence=(
                Evidence("units", float(len(units)), "units"),
                Evidence("elements of each unit", float(units.count)),
                Evidence("sampled steps", float(sampled), "steps"),
            ),
            fixes=self.fixes if cause_is_over(trace, site) else (),
        )
