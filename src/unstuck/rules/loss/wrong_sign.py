"""L016. After https://docs.pytorch.org/docs/stable/optim.html (`maximize`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.objective import HAND_WRITTEN, STEADY, factors, is_steady, main_loss, several_objectives
from unstuck.rules.rule import Rule, Stage
from unstuck.rules.window import seen_enough, span
from unstuck.trace import Kind, Signal, Site, Trace

MAX_FACTOR = 0.0  # times the loss (1); what is minimised must rise with the loss
NEVER_NEGATIVE = frozenset(
    """
    cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss
    huber_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss soft_margin_loss
    """.split()
)
LAYERS = frozenset({Kind.WEIGHT_LAYER, Kind.EMBEDDING, Kind.RECURRENT, Kind.NORM})


class WrongSign(Rule):
    """A loss is maximised: minus the loss is minimised, or an optimizer that maximises is given a loss.

    ## What it does
    Divides the value on which backward is called by the value of the known losses of that step. It fires when this
    factor is the same at nearly all sampled steps and negative while the optimizer minimises, or positive while it
    maximises; it points at the loss or at the optimizer's step.

    ## Why is this bad
    Each update makes the predictions worse, ever faster. The loss rises without bound or the network saturates.

    ## Evidence
    The factor, and the loss at the first and last sampled step. Only its sign is judged, so there is no threshold to
    set.

    ## Stays silent on
    Objectives that a loss is only a part of (an entropy bonus, a policy gradient with its rewards, a reversed
    gradient); several backward calls or optimizers that step by turns, as in a GAN; optimizers that hold no layer of
    the network (an adversarial input); minus a loss with `maximize=True`; losses that may be negative; updates made by
    hand.

    ## Example
        loss = -F.nll_loss(log_probs, y)  # nll_loss has the minus sign already

    ## Fix
    Drop the minus sign, or `maximize=True`.

    ## References
    - torch.optim.SGD, https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html (`maximize`)
    - torch.nn.functional.nll_loss,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html
    """

    code = "L016"
    name = "wrong-sign"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_VALUES, Signal.LOSS_CALL)
    explains = (
        *("A001", "A002", "A003", "A006", "A007", "G001", "G002", "G004", "G005", "G007"),
        *("U001", "U002", "U003", "U005", "U006", "L003", "L011", "L012", "L013", "L014"),
    )

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an optimizer: what an update by hand does with the gradient is not known."""
        if missing := super().lacking(trace):
            return missing
        return None if trace.of_kind(Kind.OPTIMIZER) else "an update by an optimizer of torch"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the objective when it is made of losses that are never negative, and nothing else."""
        loss, maximise = main_loss(trace), _maximises(trace)
        ops = {trace.sites[call.site].op for call in trace.loss_calls}
        if loss is None or maximise is None or not ops - {HAND_WRITTEN} <= NEVER_NEGATIVE or several_objectives(trace):
            return
        steps, values = factors(trace)
        if not seen_enough(trace, len(steps)) or not is_steady(values):
            return
        factor = float(np.median(values)) * (-1.0 if maximise else 1.0)
        if factor < MAX_FACTOR:
            first, last = (trace.objective[step] / float(np.median(values)) for step in span(steps))
            site = trace.of_kind(Kind.OPTIMIZER)[0] if maximise else loss
            yield self._report(site, loss.op, span(steps), factor, ends=(first, last))

    def _report(
        self, site: Site, loss: str, steps: tuple[int, int], factor: float, ends: tuple[float, float]
    ) -> Finding:
        times = "" if abs(abs(factor) - 1.0) <= STEADY else f"{abs(factor):.3g} times "
        how = (
            f"{site.op} maximises {times}{loss}" if site.kind is Kind.OPTIMIZER else f"minus {times}{loss} is minimised"
        )
        return self.finding(
            site,
            steps=steps,
            measured=factor,
            threshold=MAX_FACTOR,
            unit="times the loss",
            message=(
                f"{how}: each update raises the loss, "
                f"{ends[0]:.3g} at step {steps[0]}, {ends[1]:.3g} at step {steps[1]}"
            ),
            evidence=(Evidence("first loss", ends[0]), Evidence("last loss", ends[1])),
        )


def _maximises(trace: Trace) -> bool | None:
    """Tell whether the optimizers that hold layers maximise; None when there are none or they differ."""
    told = set()
    for site in trace.of_kind(Kind.OPTIMIZER):
        owners = [trace.sites[index].owner for index in site.parameters]
        if any(owner is not None and trace.sites[owner].kind in LAYERS for owner in owners):
            told |= {bool(value) for _, value in trace.scalars(site, "maximize")} or {False}
    return told.pop() if len(told) == 1 else None
