"""T002. After https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html (order of the calls)."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_SHARE = 0.5  # of the sampled updates; a loop calls in the same order in every iteration


class StepBeforeBackward(Rule):
    """The optimizer updates between a forward pass and its backward call, so with a gradient of earlier weights.

    ## What it does
    Follows, at sampled steps, the order of forward passes, backward calls and updates. It fires when at more than half
    of an optimizer's updates a forward pass through its parameters had been made since the last backward call, and the
    next backward call came without another one: it belongs to that pass.

    ## Why is this bad
    The update uses what is in `.grad` then: the gradient of the iteration before, taken at other weights and another
    batch, or nothing at all where gradients are cleared first. Backward computes this iteration's gradient too late
    for it, at weights that no longer are those of its forward pass.

    ## Evidence
    The number of such updates, and whether there was any gradient to update with.

    ## Stays silent on
    A loop that begins with the update of the iteration before, whose forward pass comes after it; one update before
    the loop; networks that are updated by turns; evaluation between backward and update.

    ## Example
        loss = criterion(model(x), y)
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()

    ## Fix
    `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, in this order.

    ## References
    - Optimizing model parameters, https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
    """

    code = "T002"
    name = "step-before-backward"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS,)  # a loop without an optimizer does not have this fault
    explains = (
        *("A001", "A002", "A003", "A006", "G002", "G003", "G004", "G005", "T003"),
        *("U001", "U002", "U003", "U005", "L011", "L012", "L013", "L014"),
    )
    max_share = Threshold(MAX_SHARE, "of the sampled updates")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each optimizer by the median of its updates."""
        for site in trace.of_kind(Kind.OPTIMIZER):
            if (finding := self._judge(trace, site)) is not None:
                yield finding

    def _judge(self, trace: Trace, site: Site) -> Finding | None:
        told = trace.scalars(site, "precedes_backward")
        steps = [step for step, early in told if early]
        if not steps or not seen_enough(trace, len(told)) or len(steps) / len(told) <= self.max_share:
            return None
        gradients = [has for _, has in trace.scalars(site, "has_gradients")]
        without = bool(gradients) and not any(gradients)
        return self.finding(
            site,
            steps=(steps[0], steps[-1]),
            measured=100.0 * len(steps) / len(told),
            threshold=100.0 * self.max_share,
            unit="%",
            message=(
                f"{site.op} updates between the forward pass and its backward call at {len(steps)} of {len(told)} "
                f"sampled updates, {'without any gradient' if without else 'with the gradient of the step before'}"
            ),
            evidence=(Evidence("such updates", float(len(steps)), "updates"),),
            related=tuple(trace.of_kind(Kind.BACKWARD)),
        )
