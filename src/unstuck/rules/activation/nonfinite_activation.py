"""A006. After https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.loss.nonfinite_loss import first_place
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_NONFINITE = 0  # elements; NaN and infinity pass on through every later layer
MAX_GROWTH = 100.0  # times, of what enters the place since the first step; above it the run had diverged before

INSIDE = frozenset({Kind.OPERATION, Kind.WEIGHT_LAYER, Kind.RECURRENT, Kind.NORM, Kind.ATTENTION, Kind.CUSTOM})


class NonfiniteActivation(Rule):
    """A place inside the network makes NaN or infinity of finite numbers.

    ## What it does
    Takes the first step whose loss is NaN or infinite, and there the first place in the order of execution that held a
    non-finite value and held none at steps with a finite loss. It fires when that place lies before the last weight
    layer and what entered it, parameters and data included, was finite; in the first ten steps that may be an operation
    on the data within a module, such as a logarithm. A step that was not sampled is judged by autograd's graph of its
    loss, as L011 describes.

    ## Why is this bad
    A single such element spreads to everything computed from it; its gradient is not finite either, and one update with
    it destroys every parameter it reaches.

    ## Evidence
    The number of non-finite elements, out of how many, and the step.

    ## Stays silent on
    Masks of -inf, and whatever else is infinite while the loss is finite; places after the last layer, which belong to
    the loss (L011); steps at which a parameter or the data was not finite already; overflow of a run that had diverged
    (what enters the place has grown more than a hundredfold).

    ## Example
        note = note / note.norm(dim=1, keepdim=True)  # 0 / 0 for an empty one

    ## Fix
    Keep the argument away from where the operation is undefined, before the operation: `F.normalize` or a clamp of the
    denominator, `log1p`, `sqrt(x + eps)`, a softmax in place of exp and a division.

    ## References
    - Numerical accuracy, https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    - torch.nn.functional.normalize, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html
    """

    code = "A006"
    name = "nonfinite-activation"
    stage = Stage.ACTIVATION
    severity = Severity.ERROR
    needs = (Signal.LOSS_VALUES,)
    explains = ("L011", "L012", "L013", "G005")
    max_growth = Threshold(MAX_GROWTH, "times, of what enters the place")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for the run, at the place where the first non-finite value was made."""
        bad = {step for step, value in trace.objective.items() if not math.isfinite(value)}
        place = first_place(trace, bad) if bad else None
        if place is None:
            return
        step, _, _, site, role, number, count = place
        graph = Graph(trace)
        inside = site.kind in INSIDE and graph.reaches(site, Kind.WEIGHT_LAYER)
        if not inside or role != Role.OUTPUT.value or not _entered_finite(trace, site, step, self.max_growth):
            return
        given = "what it was given is finite" if step in trace.steps else "nothing before is known to be"
        yield self.finding(
            site,
            steps=(step, max(bad)),
            measured=float(number),
            threshold=float(MAX_NONFINITE),
            unit="elements",
            message=(
                f"{number:,} of the {count:,} elements that {site.label} made at step {step} are NaN or infinite, and "
                f"{given}"
            ),
            evidence=(Evidence("elements", float(count), "elements"), Evidence("step", float(step), "steps")),
        )


def _entered_finite(trace: Trace, site: Site, step: int, max_growth: float) -> bool:
    """Tell whether what entered a site at a step was finite, and no larger than a run that is sound makes it.

    Of a step that was not sampled the parameters' size is known, and the loss before it; else the last sample counts.
    """
    sampled = step in trace.steps
    if not sampled and _grown(trace, step, max_growth):
        return False
    sources = [(source, Role.OUTPUT) for source in trace.producers(site, direct=False)]
    sources += [(source, Role.INPUT) for source in trace.producers(site, direct=False)]
    sources += [(parameter, Role.VALUE) for parameter in trace.parameters_of(site)]
    for source, role in [*sources, (site, Role.INPUT)]:
        known = trace.summaries(source, role)
        now = next((summary for at, summary in reversed(known) if at == step or (at < step and not sampled)), None)
        if now is None:
            continue
        if now.nonfinite or (known[0][1].rms > 0 and now.rms > max_growth * known[0][1].rms):
            return False
    return True


def _grown(trace: Trace, step: int, max_growth: float) -> bool:
    """Tell whether the loss or a parameter has grown so much by a step that was not sampled."""
    losses = [value for at, value in sorted(trace.objective.items()) if at < step and math.isfinite(value)]
    if losses and losses[-1] > max_growth * abs(losses[0]) > 0:
        return True
    for parameter in trace.of_kind(Kind.PARAMETER):
        first, now = trace.summaries(parameter, Role.VALUE)[:1], trace.scalar(parameter, "rms_then", step)
        if first and now is not None and now > max_growth * first[0][1].rms > 0:
            return True
    return False
