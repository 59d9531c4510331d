"""U003. After https://cs231n.github.io/neural-networks-3/#ratio and Glorot and Bengio 2010."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import (
    FIRST_STEP,
    MIN_STEPS,
    later_ratios,
    mostly_without_gradient,
    optimizers,
    weight_matrices,
)
from unstuck.rules.wording import ratio_of
from unstuck.trace import Location, Signal, Site, Trace

MAX_SPREAD = 300.0  # times; fine-tuning sets layers up to 100 apart; tuned half: 46 if it works, 544 in the faulty one
MIN_MATRICES = 3  # weight matrices of one optimizer; with two, one is the output layer


class UnevenUpdates(Rule):
    """Some weight matrices change hundreds of times faster, for their size, than others.

    ## What it does
    Divides the root mean square of each weight matrix's update by that of its values, takes the median over the
    sampled steps from step 20 on, and compares the matrices that one optimizer updates. It fires when the largest
    median is more than 300 times the smallest, and points at the slowest layer.

    ## Why is this bad
    One learning rate cannot serve both: where the fast layers are stable the slow ones keep their random initial
    values, and the network is only as good as random features allow.

    ## Evidence
    Both medians, the fastest matrix, and the number of matrices compared.

    ## Stays silent on
    Embeddings, biases and gains; frozen matrices and those whose gradient is exactly zero at most steps (experts that
    are not chosen); matrices that start at zero (they are measured against a third of 1 / √fan_in); networks of
    different optimizers; loaded weights, where a slow backbone is the custom; fewer than three matrices.

    ## Example
        nn.init.normal_(layer.weight)  # 20 times too large; followed by a norm, nothing shows but slow learning

    ## Fix
    Initialise each layer by the gain of its function and its fan-in; give the groups learning rates within a factor of
    ten of each other, or use Adam, which makes updates of even size.

    ## References
    - CS231n, ratio of weights to updates, https://cs231n.github.io/neural-networks-3/#ratio
    - Understanding the difficulty of training deep feedforward neural networks,
      https://proceedings.mlr.press/v9/glorot10a.html
    """

    code = "U003"
    name = "uneven-updates"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.UPDATES,)
    explains = ("L013",)
    max_spread = Threshold(MAX_SPREAD, "times, fastest to slowest")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough weight matrices with enough updates."""
        if missing := super().lacking(trace):
            return missing
        seen = sum(len(later_ratios(trace, weight)[0]) >= MIN_STEPS for weight in weight_matrices(trace))
        if seen >= MIN_MATRICES:
            return None
        return f"updates of {MIN_MATRICES} weight matrices at {MIN_STEPS} sampled steps from step {FIRST_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Compare the matrices of each optimizer."""
        if trace.facts.weights_loaded:
            return
        groups: dict[Location | None, list[tuple[float, Site]]] = defaultdict(list)
        owners = optimizers(trace)
        for weight in weight_matrices(trace):
            steps, ratios = later_ratios(trace, weight)
            if len(steps) < MIN_STEPS or mostly_without_gradient(trace, weight):
                continue
            median = float(np.median(ratios))
            if median > 0:
                optimizer = owners.get(weight.index)
                groups[optimizer.location if optimizer else None].append((median, weight))
        for group in groups.values():
            if len(group) >= MIN_MATRICES:
                yield from self._judge(trace, group)

    def _judge(self, trace: Trace, group: list[tuple[float, Site]]) -> Iterator[Finding]:
        slow, slowest = min(group, key=lambda pair: pair[0])
        fast, fastest = max(group, key=lambda pair: pair[0])
        if fast / slow <= self.max_spread:
            return
        steps = later_ratios(trace, slowest)[0]
        yield self.finding(
            slowest,
            steps=(int(steps[0]), int(steps[-1])),
            measured=fast / slow,
            threshold=self.max_spread,
            unit="times",
            message=(
                f"an update of {slowest.label} is {slow:.2g} of its values and one of {fastest.label} {fast:.2g}, "
                f"{ratio_of(fast / slow)} times as much; {self.max_spread:.0f} times is the limit"
            ),
            evidence=(
                Evidence("smallest median ratio", slow),
                Evidence("largest median ratio", fast),
                Evidence("weight matrices", float(len(group))),
            ),
        )
