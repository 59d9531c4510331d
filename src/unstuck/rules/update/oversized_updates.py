"""U001. After https://cs231n.github.io/neural-networks-3/#ratio (ratio of weights to updates)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import FIRST_STEP, MIN_STEPS, blown_up, early_loss, later_ratios, weight_matrices
from unstuck.rules.window import span
from unstuck.trace import Signal, Site, Trace

MAX_RATIO = 3.5e-2  # update-to-data ratio (1); in zoo/ at most 0.032 in working programs but one, 0.041 in a fault
EARLY = 150  # steps; of working programs that are above MAX_RATIO at step 40, the last comes down at step 135
EARLY_FACTOR = 1.3  # times the limit before it; those of the tuned half have 0.035 at most (median of steps 20 to 40)
ERROR_RATIO = 0.3  # update-to-data ratio (1); the weights are replaced within a few updates
OUTPUT_MAX_RATIO = 0.1  # update-to-data ratio (1) of an output layer; naive_names.py, mended, trains well at 0.05
GUIDE = 1e-3  # update-to-data ratio (1); https://cs231n.github.io/neural-networks-3/#ratio
BLOW_UP_RATIO = 1.0  # update-to-data ratio (1); one update larger than the weights


class OversizedUpdates(Rule):
    """Each update changes a weight matrix by a large part of its size.

    ## What it does
    Divides the root mean square of each weight matrix's update by that of its values, and fires when the median over
    the sampled steps from step 20 on is above 0.035 (0.1 for an output layer, which starts small and learns fastest).
    Weights much smaller than 1 / √fan_in, such as those that start at zero, are measured against a third of that
    instead. Before step 150, when a warm-up may just be over, both limits are 1.3 times as large. Above 0.3 the
    finding is an error. It is one, too, when a single update before step 20 is larger than the weights and blows the
    loss up: to NaN, to ten times its first value up to step 10, or to three times that from step 10 to 20, and the run
    does not end below half of it.

    ## Why is this bad
    The gradient describes the loss near the present weights. A change of several percent leaves that neighbourhood:
    the loss jumps about, units die or saturate, and what was learned is overwritten. Near 0.001 is a good guide.

    ## Evidence
    The median ratio, the largest one, and the number of sampled steps.

    ## Stays silent on
    The first 20 steps of a run that gets over them; biases, gains of norms and embeddings; parameters that are not
    updated; runs with fewer than five sampled steps after the first 20 (reported as not checked).

    ## Example
        torch.optim.Adam(model.parameters(), lr=0.1)  # moves every weight by about 0.1 a step

    ## Fix
    Lower the learning rate by the ratio's distance from the guide of 0.001 (`scale-learning-rate`); with Adam also warm
    it up.

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
    fixes = ("scale-learning-rate",)
    max_ratio = Threshold(MAX_RATIO, "update-to-data ratio")
    output_max_ratio = Threshold(OUTPUT_MAX_RATIO, "update-to-data ratio of an output layer")
    error_ratio = Threshold(ERROR_RATIO, "update-to-data ratio, for an error")
    blow_up_ratio = Threshold(BLOW_UP_RATIO, "update-to-data ratio of a first update that blows the loss up")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough updates after the first ones."""
        if missing := super().lacking(trace):
            return missing
        if any(len(later_ratios(trace, weight)[0]) >= MIN_STEPS for weight in weight_matrices(trace)) or blown_up(
            trace
        ):
            return None
        return f"updates of a weight matrix at {MIN_STEPS} sampled steps from step {FIRST_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight matrix by its median ratio."""
        graph = Graph(trace)
        if blown_up(trace) and (found := list(self._first_updates(trace))):
            yield from found
            return
        for weight in weight_matrices(trace):
            steps, ratios = later_ratios(trace, weight)
            if len(steps) < MIN_STEPS:
                continue
            first, last = span(steps)
            measured, limit = float(np.median(ratios)), self._limit(trace, graph, weight)
            limit = round(limit * EARLY_FACTOR, 6) if last < EARLY else limit
            if measured <= limit:
                continue
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
                severity=Severity.ERROR if measured > self.error_ratio else Severity.WARNING,
            )

    def _first_updates(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight matrix by its largest update in the steps that blew the loss up."""
        start = trace.objective[min(trace.objective)]
        for weight in weight_matrices(trace):
            steps, ratios = trace.update_to_data(weight)
            early = steps < FIRST_STEP
            if not early.any() or ratios[early].max() <= self.blow_up_ratio:
                continue
            step = int(steps[early][ratios[early].argmax()])
            worst = float(ratios[early].max())
            yield self.finding(
                weight,
                steps=(step, int(steps[early][-1])),
                measured=worst,
                threshold=self.blow_up_ratio,
                unit="1",
                message=(
                    f"the update of {weight.label} at step {step} is {worst:.2g} of its values, and the loss goes from "
                    f"{start:.4g} to {early_loss(trace):.4g} within {FIRST_STEP} steps"
                ),
                severity=Severity.ERROR,
            )

    def _limit(self, trace: Trace, graph: Graph, weight: Site) -> float:
        """Return the largest healthy ratio: output layers start small and learn fastest."""
        owner = trace.sites[weight.owner] if weight.owner is not None else None
        return self.output_max_ratio if owner is not None and graph.is_output_layer(owner) else self.max_ratio
