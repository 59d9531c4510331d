"""L004. Measured on what feeds the loss call, so that logits which happen to sum to one are not taken for it."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SOFTMAXES = 0  # between the last layer and a loss that has a softmax of its own
TAKES_LOGITS = frozenset({"cross_entropy"})
SOFTMAXES = frozenset({"softmax", "softmin"})


class DoubleSoftmax(Rule):
    """Cross-entropy, which has a softmax of its own, is given probabilities.

    ## What it does
    Looks at what is handed to `cross_entropy`: it fires when that is the output of a softmax, with nothing but views
    and casts in between.

    ## Why is this bad
    A softmax of numbers between 0 and 1 can give no class more than e times the share of another: with C classes the
    loss cannot fall below ln(1 + (C - 1) / e), 2.36 nats of ln 27 = 3.30, and the gradients shrink as the first softmax
    becomes sure. The network trains, slowly, and stops far from what it could learn.

    ## Evidence
    The number of softmaxes before the loss, and the number of classes. It is there or not: there is no threshold to
    set.

    ## Stays silent on
    Log-softmax before cross-entropy, which changes nothing; softmaxes that other layers or losses take; targets that
    are probabilities.

    ## Example
        probabilities = F.softmax(model(x), dim=1)
        loss = F.cross_entropy(probabilities, y)

    ## Fix
    Hand the logits to the loss, and take the softmax where probabilities are wanted.

    ## References
    - torch.nn.functional.cross_entropy,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """

    code = "L004"
    name = "double-softmax"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("G001", "L013")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each cross-entropy call by what feeds it."""
        for loss in trace.of_kind(Kind.LOSS):
            for softmax in trace.producers(loss):
                if loss.op in TAKES_LOGITS and softmax.kind is Kind.SOFTMAX and softmax.op in SOFTMAXES:
                    yield self._report(trace, loss, softmax)

    def _report(self, trace: Trace, loss: Site, softmax: Site) -> Finding:
        steps = [call.step for call in trace.loss_calls if call.site == loss.index] or [0]
        classes = trace.scalar(softmax, "classes", min(steps))
        evidence = () if classes is None else (Evidence("classes", classes, "classes"),)
        at = f"{softmax.location}" if softmax.location else softmax.label
        return self.finding(
            loss,
            steps=(min(steps), max(steps)),
            measured=1.0,
            threshold=float(MAX_SOFTMAXES),
            unit="softmaxes",
            message=f"{loss.op} applies a softmax to its input, which comes out of the {softmax.op} at {at} already",
            evidence=evidence,
            related=(softmax,),
        )
