"""L008. Measured on what feeds the loss call, so that logits which happen to lie in [0, 1] are not taken for it."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SIGMOIDS = 0  # between the last layer and a loss that has a sigmoid of its own
TAKES_LOGITS = frozenset({"binary_cross_entropy_with_logits", "multilabel_soft_margin_loss"})


class DoubleSigmoid(Rule):
    """A loss that has a sigmoid of its own is given the output of a sigmoid.

    ## What it does
    Looks at what is handed to `binary_cross_entropy_with_logits`: it fires when that is the output of a sigmoid, with
    nothing but views and casts in between.

    ## Why is this bad
    The sigmoid of a number between 0 and 1 lies between 0.5 and 0.73: no negative example can get a probability below
    one half, the loss has a floor at ln 2 for them, and the gradients fade as the first sigmoid becomes sure.

    ## Evidence
    The number of sigmoids before the loss. It is there or not: there is no threshold to set.

    ## Stays silent on
    Logits that happen to lie between 0 and 1; sigmoids whose output is used elsewhere; `binary_cross_entropy`, which
    wants probabilities.

    ## Example
        loss = F.binary_cross_entropy_with_logits(torch.sigmoid(model(x)), y)

    ## Fix
    Hand the logits to the loss, and take the sigmoid where probabilities are wanted.

    ## References
    - torch.nn.functional.binary_cross_entropy_with_logits,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    """

    code = "L008"
    name = "double-sigmoid"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("G001", "L013")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each call of such a loss by what feeds it."""
        for loss in trace.of_kind(Kind.LOSS):
            for sigmoid in trace.producers(loss):
                if loss.op in TAKES_LOGITS and sigmoid.kind is Kind.ACTIVATION and sigmoid.op == "sigmoid":
                    yield self._report(trace, loss, sigmoid)

    def _report(self, trace: Trace, loss: Site, sigmoid: Site) -> Finding:
        steps = [call.step for call in trace.loss_calls if call.site == loss.index] or [0]
        at = f"{sigmoid.location}" if sigmoid.location else sigmoid.label
        return self.finding(
            loss,
            steps=(min(steps), max(steps)),
            measured=1.0,
            threshold=float(MAX_SIGMOIDS),
            unit="sigmoids",
            message=f"{loss.op} applies a sigmoid to its input, which comes out of the sigmoid at {at} already",
            related=(sigmoid,),
        )
