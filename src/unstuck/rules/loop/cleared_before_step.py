"""T003. After https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html (order of the calls)."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SHARE = 0.9  # of the sampled updates with a gradient before; a misplaced zero_grad clears them all


class ClearedBeforeStep(Rule):
    """Gradients are cleared between backward and the update, which so has nothing to go by.

    ## What it does
    Looks at the gradients of an optimizer's parameters when backward has ended and again when the optimizer updates.
    It fires when at more than 90 % of the sampled updates there were gradients other than zero before, and at the
    update all are None or zero.

    ## Why is this bad
    An update without gradients changes nothing, or moves on by momentum and weight decay alone. The loss is computed
    and printed, and nothing is learned from it.

    ## Evidence
    The number of such updates.

    ## Stays silent on
    Gradients cleared after the update or before backward; updates that AMP skips; gradients that are zero when
    backward ends; a forward pass, update and backward call in this order (T002).

    ## Example
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()

    ## Fix
    Call `optimizer.zero_grad()` before `loss.backward()`, or after `optimizer.step()`.

    ## References
    - Optimizing model parameters, https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
    """

    code = "T003"
    name = "cleared-before-step"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS,)  # a loop without an optimizer does not have this fault
    explains = ("G003", "G004", "U002", "U003", "U005", "U006", "L013")
    max_share = Threshold(MAX_SHARE, "of the sampled updates")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each optimizer by the updates that had gradients before."""
        for site in trace.of_kind(Kind.OPTIMIZER):
            if (finding := self._judge(trace, site)) is not None:
                yield finding

    def _judge(self, trace: Trace, site: Site) -> Finding | None:
        left = {step for step, has in trace.scalars(site, "has_gradients") if has}
        had = [step for step, had in trace.scalars(site, "had_gradients") if had]
        early = {step for step, precedes in trace.scalars(site, "precedes_backward") if precedes}
        steps = [step for step in had if step not in left and step not in early]
        if not steps or not seen_enough(trace, len(had)) or len(steps) / len(had) <= self.max_share:
            return None
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=100.0 * len(steps) / len(had),
            threshold=100.0 * self.max_share,
            unit="%",
            message=(
                f"{site.op} updates without gradients at {len(steps)} of {len(had)} sampled updates: backward left "
                "some, and they were cleared before the update"
            ),
            evidence=(Evidence("such updates", float(len(steps)), "updates"),),
            related=tuple(trace.of_kind(Kind.BACKWARD)),
        )
