"""L005. What nll_loss takes for granted: https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MAX_OFF = 0.1  # of the rows whose probabilities sum to more or less than 1 by over 1e-2 (more in half precision)
TOLERANCE = 1e-2  # of a row's sum; log_softmax in float32 is exact to 1e-6
LARGEST = 1e38  # what is printed of a sum that is larger


class UnnormalisedLogProbs(Rule):
    """`nll_loss` is given numbers that are not log-probabilities.

    ## What it does
    Sums exp of each row that is handed to `nll_loss`. Log-probabilities sum to 1; it fires when over a tenth of the
    rows do not (median over the sampled steps).

    ## Why is this bad
    `nll_loss` only picks the entry of the right class and trusts that raising it lowers the others. Raw scores can all
    grow at once: the loss falls below zero without end while nothing is learnt. Where classes are struck out after the
    softmax, the rest does not get their share: the network is fitted to classes that were never open.

    ## Evidence
    The share of rows, and the median row's sum.

    ## Stays silent on
    `log_softmax` output, and logarithms of probabilities with a small constant against log 0; a loss to which the
    program adds a normaliser of its own, made of the same scores.

    ## Example
        loss = F.nll_loss(model(x), y)   # the model ends in a linear layer

    ## Fix
    Use `cross_entropy`, which takes raw scores; strike classes out (-inf) before the `log_softmax`, not after it.

    ## References
    - torch.nn.NLLLoss, https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html
    """

    code = "L005"
    name = "unnormalised-log-probs"
    stage = Stage.LOSS
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("L001", "L002", "L012", "L013", "L016")
    max_off = Threshold(MAX_OFF, "of the rows")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each `nll_loss` by the median over the sampled steps."""
        for loss in trace.of_kind(Kind.LOSS):
            seen = trace.scalars(loss, "mass_off")
            if seen and not normalised_elsewhere(trace, loss):
                off = float(np.median([share for _, share in seen]))
                mass = float(np.median([min(value, LARGEST) for _, value in trace.scalars(loss, "mass")]))
                if off > self.max_off and math.isfinite(mass):
                    softmaxes = tuple(s for s in trace.producers(loss, direct=False) if s.kind is Kind.SOFTMAX)
                    yield self._report(loss, (seen[0][0], seen[-1][0]), off, mass, softmaxes)

    def _report(
        self, loss: Site, steps: tuple[int, int], off: float, mass: float, softmaxes: tuple[Site, ...]
    ) -> Finding:
        return self.finding(
            loss,
            steps=steps,
            measured=100 * off,
            threshold=100 * self.max_off,
            unit="%",
            message=(
                f"nll_loss expects log-probabilities, but in {off:.0%} of the rows they do not sum to 1 "
                f"(the median row to {mass:.3g})"
            ),
            evidence=(Evidence("sum of the median row's probabilities", mass),),
            severity=Severity.ERROR if mass > 1 + TOLERANCE else Severity.WARNING,
            related=softmaxes,
        )


def normalised_elsewhere(trace: Trace, loss: Site) -> bool:
    """Tell whether what makes the scores also reaches the objective another way: as a normaliser added to the loss."""
    direct = {site.index for site in trace.producers(loss)}
    around = {edge.producer for edge in trace.edges if edge.consumer == loss.index and not edge.direct}
    return bool(direct & around)
