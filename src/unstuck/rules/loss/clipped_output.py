"""L009. What range a network's last function leaves to its output: https://cs231n.github.io/neural-networks-1/."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Finding
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_BEYOND = 0.05  # of the targets, outside the output's range by more than 1 % of their standard deviation
MAX_ZEROS = 0.2  # of the logits; a linear layer gives none
RECTIFIERS = frozenset({"relu", "relu6", "clamp_min"})
SQUASHERS = {"cross_entropy": frozenset({"sigmoid", "tanh", "hardsigmoid", "softsign"})}
SQUASHERS["binary_cross_entropy_with_logits"] = frozenset({"tanh", "softsign"})  # a sigmoid is L008's


class ClippedOutput(Rule):
    """The network ends in a function whose range the loss's answers leave.

    ## What it does
    Looks at a ReLU, sigmoid, tanh or the like whose output goes straight to a loss. In a regression it fires when over
    5 % of the targets lie outside the function's range; where the loss takes logits, when over 20 % of them are exact
    zeros of a ReLU, or when they come out of a tanh or sigmoid (median over the sampled steps).

    ## Why is this bad
    What lies beyond the range can never be predicted, and elements that stick at the edge get no gradient. A softmax of
    numbers in [-1, 1] cannot get sure, and one of a ReLU's outputs cannot push a class below zero.

    ## Evidence
    The share of targets beyond the range, or of logits that are zero.

    ## Stays silent on
    Targets within the range (pixels in [0, 1] after a sigmoid, counts after a softplus); outputs that are scaled or
    shifted before the loss (`10 * torch.tanh(x)`); scores that were averaged after the ReLU.

    ## Example
        model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1), nn.ReLU())
        loss = F.mse_loss(model(x), standardised)

    ## Fix
    End in the linear layer; or bring the targets into the range.

    ## References
    - CS231n, output layer, https://cs231n.github.io/neural-networks-1/
    """

    code = "L009"
    name = "clipped-output"
    stage = Stage.LOSS
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("A001", "A002", "A003", "D004", "G001", "G004", "L013", "L017")
    max_beyond = Threshold(MAX_BEYOND, "of the targets")
    max_zeros = Threshold(MAX_ZEROS, "of the logits")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each loss that an activation function feeds."""
        for loss in trace.of_kind(Kind.LOSS):
            last = next((site for site in trace.producers(loss) if site.kind is Kind.ACTIVATION), None)
            if last is None:
                continue
            beyond = trace.scalars(loss, "targets_beyond")
            if beyond:
                share = float(np.median([value for _, value in beyond]))
                if share > self.max_beyond:
                    what = f"{share:.0%} of the targets lie outside the range of the {last.op} that makes the output"
                    yield self._report(loss, beyond[0][0], beyond[-1][0], share, self.max_beyond, what)
            elif loss.op in SQUASHERS:
                yield from self._judge_logits(trace, loss, last)

    def _judge_logits(self, trace: Trace, loss: Site, last: Site) -> Iterator[Finding]:
        steps, zeros = trace.series(loss, Role.INPUT, "zero_fraction")
        if not len(steps):
            return
        share = float(np.median(zeros))
        first, end = int(steps[0]), int(steps[-1])
        if last.op in RECTIFIERS and share > self.max_zeros:
            what = (
                f"{loss.op} takes logits, but they come out of a {last.op}: none is negative and {share:.0%} are zero"
            )
            yield self._report(loss, first, end, share, self.max_zeros, what)
        elif last.op in SQUASHERS[loss.op]:
            what = f"{loss.op} takes logits of any size, but they come straight out of a {last.op}"
            yield self._report(loss, first, end, 1.0, 0.0, what)

    def _report(self, loss: Site, first: int, last: int, share: float, limit: float, what: str) -> Finding:
        return self.finding(
            loss,
            steps=(first, last),
            measured=100 * share,
            threshold=100 * limit,
            unit="%",
            message=what,
        )
