"""U001. After https://cs231n.github.io/neural-networks-3/#ratio (ratio of weights to updates)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import span
from unstuck.trace import Kind, Signal, Site, Trace
from unstuck.trace.trace import Series

MAX_RATIO = 3e-2  # update-to-data ratio (1); the guide is 1e-3, Adam in the early part of a run goes up to 1e-2
ERROR_RATIO = 0.3  # update-to-data ratio (1); the weights are replaced within a few updates
OUTPUT_MAX_RATIO = 0.1  # update-to-data ratio (1) of an output layer: examples/naive_names.py --fix trains well at 0.05
GUIDE = 1e-3  # update-to-data ratio (1); https://cs231n.github.io/neural-networks-3/#ratio
FIRST_STEP = 20  # step; before it small initial weights and Adam's first estimates make large ratios
MIN_STEPS = 5  # sampled steps from FIRST_STEP on, for a median


class OversizedUpdates(Rule):
    """Each update changes a weight matrix by a large part of its size.

    ## What it does
    Divides the root mean square of each weight matrix's update by that of its values, and fires when the median over
    the sampled steps from step 20 on is above 0.03 (0.1 for an output layer, which starts small and learns fastest).
    Weights much smaller than 1 / √fan_in, such as those that start at zero, are measured against a third of that
    instead. Above 0.3 the finding is an error.

    ## Why is this bad
    The gradient describes the loss near the present weights. A change of several percent leaves that neighbourhood:
    the loss jumps about, units die or saturate, and what was learned is overwritten. Near 0.001 is a good guide.

    ## Evidence
    The median ratio, the largest one, and the number of sampled steps.

    ## Stays silent on
    The first 20 steps; biases, gains of norms and embeddings; parameters that are not updated; runs with fewer than
    five sampled steps after the first 20 (reported as not checked).

    ## Example
        torch.optim.Adam(model.parameters(), lr=0.1)  # moves every weight by about 0.1 a step

    ## Fix
    Lower the learning rate by the ratio's distance from the guide of 0.001; with Adam also warm it up.

    ## References
    - CS231n, ratio of weights to updates, https://cs231n.github.io/neural-networks-3/#ratio
    - torch.optim, https://docs.pytorch.org/docs/stable/optim.html
    """

    code = "U001"
    name = "oversized-updates"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.UPDATES,)
    explains = ("A001", "A002", "A003", "L011", "L012", "L013", "L014")
    max_ratio = Threshold(MAX_RATIO, "update-to-data ratio")
    output_max_ratio = Threshold(OUTPUT_MAX_RATIO, "update-to-data ratio of an output layer")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough updates after the first ones."""
        if missing := super().lacking(trace):
            return missing
        if any(len(_ratios(trace, weight)[0]) >= MIN_STEPS for weight in _weights(trace)):
            return None
        return f"updates of a weight matrix at {MIN_STEPS} sampled steps from step {FIRST_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight matrix by its median ratio."""
        graph = Graph(trace)
        for weight in _weights(trace):
            steps, ratios = _ratios(trace, weight)
            if len(steps) < MIN_STEPS:
                continue
            measured, limit = float(np.median(ratios)), self._limit(trace, graph, weight)
            if measured <= limit:
                continue
            first, last = span(steps)
            yield self.finding(
                weight,
                steps=(first, last),
                measured=measured,
                threshold=limit,
                unit="1",
                message=(
                    f"an update of {weight.label} is {measured:.2g} of its values (median of steps {first} to {last}); "
                    f"the guide is {GUIDE:g} and {limit:g} the limit"
                ),
                evidence=(
                    Evidence("largest ratio", float(ratios.max())),
                    Evidence("sampled steps", float(len(steps)), "steps"),
                ),
                severity=Severity.ERROR if measured > ERROR_RATIO else Severity.WARNING,
            )

    def _limit(self, trace: Trace, graph: Graph, weight: Site) -> float:
        """Return the largest healthy ratio: output layers start small and learn fastest."""
        owner = trace.sites[weight.owner] if weight.owner is not None else None
        return self.output_max_ratio if owner is not None and graph.is_output_layer(owner) else self.max_ratio


def _weights(trace: Trace) -> Iterator[Site]:
    """Yield the weight matrices (and convolution kernels) of weight layers."""
    for site in trace.of_kind(Kind.PARAMETER):
        owned = site.owner is not None and trace.sites[site.owner].kind is Kind.WEIGHT_LAYER
        if owned and site.slot == "weight" and len(site.shape) >= 2:
            yield site


def _ratios(trace: Trace, weight: Site) -> Series:
    """Return (steps, update-to-data ratios) from FIRST_STEP on."""
    steps, ratios = trace.update_to_data(weight)
    return steps[steps >= FIRST_STEP], ratios[steps >= FIRST_STEP]
