"""N008. After Li et al. 2018, Understanding the disharmony between dropout and batch normalization by variance shift,
https://arxiv.org/abs/1801.05134.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SHIFT = 1.1  # times, the variance in training beside that in evaluation; p = 0.1 makes 1.11, arXiv:1801.05134


class DropoutBeforeBatchnorm(Rule):
    """Dropout directly before batch normalisation gives it a variance that evaluation does not have.

    ## What it does
    Follows the output of each dropout that is active in training, and fires when batch normalisation takes it with
    nothing in between, and dropping makes the variance more than 1.1 times as large: 1 / (1 - p) for inputs of mean
    zero.

    ## Why is this bad
    Dropout scales what it keeps by 1 / (1 - p), which keeps the mean and raises the variance. The running variance is
    learned with that; in evaluation, where nothing is dropped, each unit is divided by too large a standard deviation,
    and the layers after it get inputs on a scale they were never trained on.

    ## Evidence
    The probability of being dropped, and the ratio of the variances that it makes.

    ## Stays silent on
    A weight layer or an activation function in between: the usual order of linear layer, norm, function, dropout, in
    which the shift is smaller and training makes up for it; other norms, which have no running statistics; dropout
    that is off or weaker than 0.09.

    ## Example
        x = self.norm(self.dropout(self.conv(x)))

    ## Fix
    Put the dropout after the batch normalisation and the function that follows it.

    ## References
    - Understanding the disharmony between dropout and batch normalization by variance shift,
      https://arxiv.org/abs/1801.05134
    """

    code = "N008"
    name = "dropout-before-batchnorm"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.NORMS)
    explains = ("N003",)
    max_shift = Threshold(MAX_SHIFT, "times, of the variance")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs dropout."""
        if missing := super().lacking(trace):
            return missing
        return None if trace.of_kind(Kind.DROPOUT) else "dropout"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each batch normalisation by the dropout right before it."""
        for norm in trace.of_kind(Kind.NORM):
            training = [on for _, on in trace.scalars(norm, "training")]
            if norm.op != "batch_norm" or not training or not np.median(training):
                continue
            for dropout in trace.producers(norm):
                steps, p = _active(trace, dropout)
                if steps and seen_enough(trace, len(steps)) and p < 1 and 1 / (1 - p) > self.max_shift:
                    yield self._report(norm, dropout, (steps[0], steps[-1]), p)

    def _report(self, norm: Site, dropout: Site, steps: tuple[int, int], p: float) -> Finding:
        return self.finding(
            norm,
            steps=steps,
            measured=1 / (1 - p),
            threshold=self.max_shift,
            unit="1",
            message=(
                f"{norm.label} takes the output of {dropout.label}, which in training raises the variance "
                f"{1 / (1 - p):.2g}-fold (p = {p:g}) and in evaluation does not"
            ),
            evidence=(Evidence("dropout probability", p),),
        )


def _active(trace: Trace, dropout: Site) -> tuple[list[int], float]:
    """Return the steps at which a dropout was active, and the median of its probabilities there."""
    if dropout.kind is not Kind.DROPOUT:
        return [], 0.0
    active = [(step, p) for step, p in trace.scalars(dropout, "p") if trace.scalar(dropout, "training", step)]
    return [step for step, _ in active], float(np.median([p for _, p in active])) if active else 0.0
