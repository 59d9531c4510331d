"""G007. After Pascanu et al. 2013, https://proceedings.mlr.press/v28/pascanu13.html (clipping by the norm)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MAX_CLIPPED = 0.95  # of the sampled clipping calls (1); a bound for outliers acts on a few
MAX_SHRINKAGE = 10.0  # times, median; below it the bound is near the usual norm
MIN_LENGTH = 100  # steps of a run; early gradients may all be large
MIN_CALLS = 8  # sampled clipping calls
RESCALING = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Rprop"})
"""Optimizers that undo a factor which is the same at all steps."""


class AlwaysClipped(Rule):
    """Clipping by norm acts on every step and takes away nearly all of the gradient.

    ## What it does
    Reads at the sampled steps by what factor `clip_grad_norm_` multiplies the gradients. It fires when a run of at
    least 100 steps is clipped at more than 95 % of them and the norm shrinks more than 10-fold in the median. It
    points at the clipping call.

    ## Why is this bad
    A bound is meant for outliers. When every step meets it, all gradients have the same length, whatever they say: the
    step size no longer falls as the loss does, and with SGD the learning rate is in effect a tenth of what it says or
    less.

    ## Evidence
    The share of the calls that clipped, the median norm, the bound, and the median factor.

    ## Stays silent on
    Occasional clipping; bounds within a factor of 10 of the usual norm; runs of fewer than 100 steps. With optimizers
    that rescale gradients anyway (Adam, RMSprop) it is only information, since these undo a steady factor.

    ## Example
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.02)  # the usual norm is 1

    ## Fix
    Set the bound near or above the usual norm, which `clip_grad_norm_` returns; if the norm is large because the
    loss is a sum, use its mean.

    ## References
    - On the difficulty of training recurrent neural networks, https://proceedings.mlr.press/v28/pascanu13.html
    - torch.nn.utils.clip_grad_norm_,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    """

    code = "G007"
    name = "always-clipped"
    stage = Stage.GRADIENT
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("L013", "U002")
    max_clipped = Threshold(MAX_CLIPPED, "share of the clipping calls")
    max_shrinkage = Threshold(MAX_SHRINKAGE, "times")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs clipping calls."""
        if missing := super().lacking(trace):
            return missing
        calls = max((len(trace.scalars(s, "clip_coefficient")) for s in trace.of_kind(Kind.CLIPPING)), default=0)
        if not calls:
            return "a call of torch.nn.utils.clip_grad_norm_"
        long_enough = calls >= MIN_CALLS and trace.steps[-1] + 1 >= MIN_LENGTH
        return None if long_enough else f"clipping at {MIN_CALLS} sampled steps of a run of {MIN_LENGTH}"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each place at which gradients are clipped."""
        for site in trace.of_kind(Kind.CLIPPING):
            coefficients = np.array([value for _, value in trace.scalars(site, "clip_coefficient")])
            if len(coefficients) < MIN_CALLS:
                continue
            clipped, coefficient = float(np.mean(coefficients < 1)), float(np.median(coefficients))
            if clipped > self.max_clipped and coefficient * self.max_shrinkage < 1:
                yield self._report(trace, site, clipped, coefficient)

    def _report(self, trace: Trace, site: Site, clipped: float, coefficient: float) -> Finding:
        norms = [value for _, value in trace.scalars(site, "clip_norm")]
        bounds = [value for _, value in trace.scalars(site, "clip_bound")]
        steps = [step for step, _ in trace.scalars(site, "clip_coefficient")]
        optimizers = trace.of_kind(Kind.OPTIMIZER)
        rescaled = bool(optimizers) and all(optimizer.op in RESCALING for optimizer in optimizers)
        shrinkage = 1 / coefficient if coefficient > 0 else float("inf")
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=shrinkage,
            threshold=self.max_shrinkage,
            unit="times",
            message=(
                f"{100 * clipped:.0f} % of the sampled steps are clipped, to a norm of {np.median(bounds):.3g} from "
                f"one of {np.median(norms):.3g} (medians): {shrinkage:.3g}-fold"
            ),
            evidence=(
                Evidence("steps clipped", clipped),
                Evidence("norm before clipping", float(np.median(norms))),
                Evidence("bound", float(np.median(bounds))),
                Evidence("sampled steps", float(len(steps)), "steps"),
            ),
            severity=Severity.INFO if rescaled else Severity.WARNING,
        )
