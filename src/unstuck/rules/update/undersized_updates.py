"""U002. After https://cs231n.github.io/neural-networks-3/#ratio (ratio of weights to updates)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.updates import (
    FIRST_STEP,
    MIN_STEPS,
    full_rate_steps,
    later_ratios,
    loss_at_ends,
    optimizers,
    weight_matrices,
)
from unstuck.rules.window import span
from unstuck.trace import Signal, Site, Trace
from unstuck.trace.trace import Series

MIN_RATIO = 1e-5  # update-to-data ratio (1); a hundredth of the guide: 100,000 updates to change a weight once
GUIDE = 1e-3  # update-to-data ratio (1); https://cs231n.github.io/neural-networks-3/#ratio
MAX_FALL = 0.2  # of the loss at the beginning (1); a run that falls further learns, if slowly
TRAINED_SHARE = 0.5  # of the baseline loss (1); a network that starts below it was trained before


class UndersizedUpdates(Rule):
    """Updates are so small beside the weights that the network stays as it was initialised.

    ## What it does
    Divides the root mean square of each weight matrix's update by that of its values, takes the median over the
    sampled steps from step 20 on at which the learning rate is at least half its largest, and fires when it is below
    1e-5 for every weight matrix that is updated and the loss has not fallen by a fifth. Weights much smaller than
    1 / √fan_in are measured against a third of that. It points at the first such layer.

    ## Why is this bad
    At 1e-5 it takes a hundred thousand updates that all agree to change a weight by its own size. A useful pace is
    near 1e-3.

    ## Evidence
    The largest and the smallest median ratio, the number of weight matrices, and the loss at both ends of the run.

    ## Stays silent on
    Warm-ups that are not over, and the low end of decaying schedules; loaded weights, or a start far below the
    baseline loss; runs in which the loss falls; networks of which a part learns (U003 compares the parts); weights
    that are never changed (U005).

    ## Example
        torch.optim.Adam(model.parameters(), lr=1e-7)
        loss = F.mse_loss(y, x) / x.numel()  # with SGD: divided twice

    ## Fix
    Raise the learning rate by the guide's distance from the ratio, in steps of ten (`scale-learning-rate`); look for a
    loss that is divided by more than the number of its terms.

    ## References
    - CS231n, ratio of weights to updates, https://cs231n.github.io/neural-networks-3/#ratio
    """

    code = "U002"
    name = "undersized-updates"
    stage = Stage.UPDATE
    severity = Severity.WARNING
    needs = (Signal.UPDATES, Signal.LOSS_VALUES)
    explains = ("L013",)
    fixes = ("scale-learning-rate",)
    min_ratio = Threshold(MIN_RATIO, "update-to-data ratio")
    max_fall = Threshold(MAX_FALL, "of the loss at the beginning")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough updates after the first ones."""
        if missing := super().lacking(trace):
            return missing
        if any(len(later_ratios(trace, weight)[0]) >= MIN_STEPS for weight in weight_matrices(trace)):
            return None
        return f"updates of a weight matrix at {MIN_STEPS} sampled steps from step {FIRST_STEP} on"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge all weight matrices together."""
        early, late = loss_at_ends(trace)
        if trace.facts.weights_loaded or _starts_trained(trace) or not late > early - self.max_fall * abs(early):
            return
        judged: list[tuple[Site, float, Series]] = []
        for weight in weight_matrices(trace):
            steps, ratios = _at_full_rate(trace, weight)
            if not len(trace.update_to_data(weight)[0]) or (len(steps) >= MIN_STEPS and not ratios.any()):
                continue
            if len(steps) < MIN_STEPS:
                return
            judged.append((weight, float(np.median(ratios)), (steps, ratios)))
        medians = [median for _, median, _ in judged]
        if not judged or max(medians) >= self.min_ratio or not any(medians):
            return
        weight, _, (steps, _) = judged[0]
        first, last = span(steps)
        yield self.finding(
            weight,
            steps=(first, last),
            measured=max(medians),
            threshold=self.min_ratio,
            unit="1",
            message=(
                f"an update is {max(medians):.2g} of the values of a weight matrix at the most (median of steps "
                f"{first} to {last}, {len(judged)} matrices); the guide is {GUIDE:g}, and the loss went from "
                f"{early:.4g} to {late:.4g}"
            ),
            evidence=(
                Evidence("smallest median ratio", min(medians)),
                Evidence("weight matrices", float(len(judged))),
                Evidence("loss at the beginning", early),
                Evidence("loss at the end", late),
            ),
        )


def _at_full_rate(trace: Trace, weight: Site) -> Series:
    """Return (steps, ratios) from FIRST_STEP on without those of a warm-up or of a decayed learning rate."""
    steps, ratios = later_ratios(trace, weight)
    wanted = full_rate_steps(trace, optimizers(trace).get(weight.index))
    if wanted is None:
        return steps, ratios
    keep = np.array([int(step) in wanted for step in steps], dtype=bool)
    return steps[keep], ratios[keep]


def _starts_trained(trace: Trace) -> bool:
    return any(
        call.baseline is not None and call.baseline > 0 and call.value < TRAINED_SHARE * call.baseline
        for call in trace.loss_at_start()
    )
