"""N009. After https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html, where eps stands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_COLLAPSED = 0.1  # of the units (1), median over the sampled steps; tuned half: 0 if it works, 1 in both faulty ones


USUAL_EPS = 1e-3  # eps (1) of batch normalisation in common libraries: 1e-5 and 1e-3; a larger one was set by someone
MAX_STD = 0.5  # of the usual √eps; a DCGAN (weights of std 0.02) grows to 0.6 of it, a faulty program has 0.3
LATE = 4  # one in so many of the sampled steps, the latest, are the end of a run


class CollapsedUnits(Rule):
    """Units come to batch normalisation with a variance below its eps, so that it does not normalise them.

    ## What it does
    Takes the variance of each unit in the training batches that batch normalisation is given, and fires when it is
    below eps for at least 10 % of the units, median over the sampled steps. Where eps is one that libraries use (up to
    0.001), the units' standard deviation must also stay below half of √eps (median of the last quarter of these steps):
    the norm then gives less than 0.45 of unit scale.

    ## Why is this bad
    The norm divides by √(variance + eps). Where eps is the larger of the two, the output is not brought to unit scale:
    it stays small, by a factor that changes as the weights grow. Units that are constant over the batch give nothing
    but the norm's bias. Either the inputs have lost their scale before the norm, or eps was set far too large.

    ## Evidence
    The share of units below eps, their median standard deviation, and eps.

    ## Stays silent on
    Fewer than 10 % such units, as dead inputs leave here and there; batch normalisation by running statistics; norms
    whose gain starts at zero, which concerns the output.

    ## Example
        nn.BatchNorm2d(64, 0.8)  # the second argument is eps, not the momentum

    ## Fix
    Pass momentum by name and leave eps at 1e-5; where the inputs are tiny, find out why (a mean over padding, a
    missing scale) and undo it.

    ## References
    - torch.nn.BatchNorm1d, https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
    """

    code = "N009"
    name = "collapsed-units"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.NORMS)
    explains = ("A002", "A003", "G001", "G004", "L013", "U002", "U003")
    max_collapsed = Threshold(MAX_COLLAPSED, "of the units")
    max_std = Threshold(MAX_STD, "of √eps, where eps is a usual one")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs batch normalisation."""
        if missing := super().lacking(trace):
            return missing
        seen = any(trace.scalars(site, "collapsed_units") for site in trace.of_kind(Kind.NORM))
        return None if seen else "batch normalisation"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each batch normalisation by the median of its steps in train mode."""
        for site in trace.of_kind(Kind.NORM):
            shares = [(s, n) for s, n in trace.scalars(site, "collapsed_units") if trace.scalar(site, "training", s)]
            if shares and seen_enough(trace, len(shares)):
                share = float(np.median([n for _, n in shares]))
                eps = trace.scalar(site, "eps", shares[-1][0]) or 0.0
                std = float(np.median([std for _, std in trace.scalars(site, "unit_std")] or [0.0]))
                late = [std for _, std in trace.scalars(site, "unit_std")][-max(1, len(shares) // LATE) :]
                stays = eps > USUAL_EPS or (late and float(np.median(late)) < self.max_std * eps**0.5)
                if share >= self.max_collapsed and stays:
                    yield self._report(site, [step for step, _ in shares], share, eps, std)

    def _report(self, site: Site, steps: list[int], share: float, eps: float, std: float) -> Finding:
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=share,
            threshold=self.max_collapsed,
            unit="1",
            message=(
                f"{share:.0%} of the units that {site.label} is given vary by less than its eps of {eps:g} allows for "
                f"(median standard deviation {std:.2g}, √eps = {eps**0.5:.2g})"
            ),
            evidence=(Evidence("median std of the units", std), Evidence("eps", eps)),
        )
