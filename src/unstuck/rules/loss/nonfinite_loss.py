"""L011. After https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.rules.updates import gradients_explode
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_NONFINITE_STEPS = 0  # steps; a loss that trains anything is a finite number

Place = tuple[int, int, int, Site, str, int, int]  # step, parameters before the rest, order, site, role, number, of


class NonfiniteLoss(Rule):
    """The loss is NaN or infinite.

    ## What it does
    Looks at the value on which backward was called, step by step, and fires when one is NaN or infinite. It points
    at the first place, in the order of execution, that held a non-finite value at a sampled step with such a loss
    and at no step with a finite one; parameters count as executed before everything else. Of a step that was not
    sampled, on the CPU, autograd's graph of its loss tells which operation was the first, and the graph of the next
    step, which is sampled for that, at which line it is; where that does not work, because the graph had another
    shape, say, the finding names what the next sampled step shows and says so. The finding is an error when the last
    loss is still not finite, and a warning when the loss came back.

    ## Why is this bad
    Gradients of a non-finite loss are themselves not finite, and one update with them destroys every parameter they
    reach: nothing learned before that step survives.

    ## Evidence
    The first such step, the number of such steps, and how many elements were not finite at the place named. One such
    step is enough, so there is no threshold to set.

    ## Stays silent on
    Finite losses, however large; masks and attention scores that are infinite at steps whose loss is finite.

    ## Example
        loss = (error.sum(1) / weight.sum(1)).mean()  # 0 / 0 for a row without weights

    ## Fix
    By cause: keep denominators and arguments of `log` and `sqrt` away from zero before the operation, not after it;
    lower the learning rate where the parameters grew beyond bounds first, or clip gradients (`clip-gradients`).

    ## References
    - Numerical accuracy, https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html
    - torch.autograd.set_detect_anomaly, https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    """

    code = "L011"
    name = "nonfinite-loss"
    stage = Stage.OUTCOME
    severity = Severity.ERROR
    needs = (Signal.LOSS_VALUES,)
    explains = ("L013",)
    fixes = ("clip-gradients",)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding for the run, at the first place with a non-finite value."""
        bad = [step for step, value in sorted(trace.objective.items()) if not math.isfinite(value)]
        if len(bad) <= MAX_NONFINITE_STEPS:
            return
        first, last = bad[0], max(trace.objective)
        message = f"the loss is {_spell(trace.objective[first])} at step {first}"
        if len(bad) > 1:
            message += f" and at {len(bad) - 1} of the {sum(step > first for step in trace.objective)} later steps"
        evidence = [Evidence("first step", float(first), "steps")]
        site = None
        if place := first_place(trace, set(bad)):
            step, _, _, site, role, number, count = place
            if step == first:
                message += f"; the first non-finite value is in the {role} of {site.label}"
                if site.kind is Kind.PARAMETER and math.isfinite(trace.objective.get(first - 1, math.nan)):
                    message += f", which the update of step {first - 1}, whose loss was finite, left so"
            else:
                message += f"; at step {step}, the next that was sampled, the first is in the {role} of {site.label}"
            evidence.append(Evidence("non-finite elements there", float(number), f"of {count}"))
        yield self.finding(
            site,
            steps=(first, bad[-1]),
            measured=float(len(bad)),
            threshold=float(MAX_NONFINITE_STEPS),
            unit="steps",
            message=message,
            evidence=tuple(evidence),
            severity=Severity.WARNING if math.isfinite(trace.objective[last]) else Severity.ERROR,
            fixes=self.fixes if gradients_explode(trace, first) else (),
        )


def first_place(trace: Trace, bad_steps: set[int]) -> Place | None:
    """Return the first place that was not finite at one of `bad_steps` and was finite at all other steps."""
    places = [place for site in trace.sites for place in (*_places(trace, site), *_births(trace, site))]
    excused = {(place[3].index, place[4]) for place in places if place[0] not in bad_steps}
    places = [place for place in places if (place[3].index, place[4]) not in excused]
    first = min(places, key=lambda place: (*place[:3], place[4] != "input"), default=None)
    while first is not None and (before := _before(trace, first, places)) is not None:
        first = before
    return first


def _before(trace: Trace, place: Place, places: list[Place]) -> Place | None:
    """Return the place of an operation that broke first at that step and stands later only for being new then."""
    site = place[3]
    if site.kind in (Kind.OPERATION, Kind.PARAMETER):
        return None
    made = {source.index for source in trace.producers(site, direct=False) if source.kind is Kind.OPERATION}
    there = (other for other in places if other[:2] == place[:2] and other[3].index in made and other[4] == "output")
    return min(there, key=lambda other: other[2], default=None)


def _places(trace: Trace, site: Site) -> Iterator[Place]:
    if site.kind is Kind.LOSS:
        for call in trace.loss_calls:
            if call.site == site.index and not math.isfinite(call.value):
                yield call.step, 1, site.order, site, "value", 1, 1
        return
    parameter = site.kind is Kind.PARAMETER
    for role in (Role.VALUE,) if parameter else (Role.INPUT, Role.OUTPUT):
        for step, summary in trace.summaries(site, role):
            if summary.nonfinite:
                rank = 0 if parameter else 1
                yield step, rank, site.order, site, role.value, summary.nonfinite, summary.count


def _births(trace: Trace, site: Site) -> Iterator[Place]:
    """Yield what the graph of a step that was not sampled has told: see `unstuck.capture.births`."""
    made = Role.VALUE if site.kind is Kind.LOSS else Role.OUTPUT
    for name, there in (("born", made), ("born_in_input", Role.INPUT)):
        for step, number in trace.scalars(site, name):
            count = trace.scalar(site, f"{name}_of", step) or number
            role = "target" if name == "born_in_input" and site.kind is Kind.LOSS else there.value
            yield step, 1, site.order, site, role, int(number), int(count)
    for step, number in trace.scalars(site, "spoiled"):
        yield step, 0, site.order, site, Role.VALUE.value, int(number), math.prod(site.shape)


def _spell(value: float) -> str:
    return "NaN" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
