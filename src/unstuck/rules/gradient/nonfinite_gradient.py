"""G005. After https://docs.pytorch.org/docs/stable/notes/autograd.html (gradients where a derivative is infinite)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_NONFINITE_STEPS = 0  # sampled steps; one update with a NaN destroys what it reaches


class NonfiniteGradient(Rule):
    """The loss is finite, but gradients are NaN or infinite.

    ## What it does
    Looks for gradients of parameters that hold NaN or infinity at sampled steps whose loss is finite. It points at the
    operation that made non-finite numbers of a finite gradient: a square root or power of zero, a logarithm, a
    division by zero, an arc cosine of 1. Where none was seen to, it points at the last layer whose gradient is
    affected.

    ## Why is this bad
    An update with such a gradient turns every parameter that it reaches into NaN. If bad updates are skipped, the
    steps are lost, and always those with the same kind of data.

    ## Evidence
    The number of sampled steps with such gradients, the first one, and how many elements the operation made. One such
    step is enough, so there is no threshold to set.

    ## Stays silent on
    Non-finite losses (L011); overflows in half precision that AMP's GradScaler answers by skipping the update; singular
    points whose gradient is not used or is made finite before the update.

    ## Example
        distance = ((a - b) ** 2).sum(-1).sqrt()  # infinite slope where a equals b
        torch.where(x > 0, x.log(), 0.0)          # the branch not taken still passes 0 * inf = NaN back

    ## Fix
    Keep the argument away from the singular point before the operation: `(squared + 1e-12).sqrt()`,
    `x.clamp(min=1e-12).log()`; with `torch.where`, put a safe value in before, not after.

    ## References
    - Autograd mechanics, https://docs.pytorch.org/docs/stable/notes/autograd.html
    - NaN gradients behind torch.where, https://github.com/pytorch/pytorch/issues/23156
    """

    code = "G005"
    name = "nonfinite-gradient"
    stage = Stage.GRADIENT
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_VALUES, Signal.PARAMETER_GRADIENTS)
    explains = ("A006", "L011", "L012", "L013", "L014", "U005")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield a finding for each operation that breaks gradients, or one for the run when none was seen to."""
        bad = {step: n for step, n in sorted(_bad_parameters(trace).items()) if _finite(trace, step)}
        breaks = list(_breaks(trace, lambda step: _finite(trace, step) and (step in bad or _skipped(trace, step))))
        for site, made in breaks:
            yield self._report(trace, site, made, sum(made.values()))
        if not breaks and bad:
            yield self._report(trace, _last_layer(trace, min(bad)), bad, None)

    def _report(self, trace: Trace, site: Site | None, steps: dict[int, int], elements: int | None) -> Finding:
        sampled = sum(step >= min(steps) for step in trace.steps)
        if elements is None:
            where = f" down to {site.label}" if site else ""
            what = f"gradients of {steps[min(steps)]} parameters are not finite{where}"
        else:
            what = f"backward through {site.label if site else ''} makes NaN or infinity of a finite gradient"
        evidence = [
            Evidence("first step", float(min(steps)), "steps"),
            Evidence("sampled steps from then on", float(sampled), "steps"),
        ]
        if elements is not None:
            evidence.append(Evidence("non-finite elements", float(elements)))
        return self.finding(
            site,
            steps=(min(steps), max(steps)),
            measured=float(len(steps)),
            threshold=float(MAX_NONFINITE_STEPS),
            unit="steps",
            message=f"{what} at {len(steps)} of {sampled} sampled steps from step {min(steps)} on; the loss is finite",
            evidence=tuple(evidence),
        )


def _bad_parameters(trace: Trace) -> dict[int, int]:
    """Return, by step, how many parameters had non-finite gradients; without the updates that AMP skipped."""
    found: dict[int, int] = {}
    for parameter in trace.of_kind(Kind.PARAMETER):
        for step, summary in trace.summaries(parameter, Role.GRADIENT):
            skipped = trace.facts.skipped_updates > 0 and trace.summary(parameter, Role.UPDATE, step) is None
            if summary.nonfinite and not skipped:
                found[step] = found.get(step, 0) + 1
    return found


def _skipped(trace: Trace, step: int) -> bool:
    """Tell whether a step had backward calls whose gradients were not used: by AMP, or by a check of the program's."""
    passes = sum(
        len(values)
        for call in trace.of_kind(Kind.BACKWARD)
        for at, values in trace.vectors(call, "objectives")
        if at == step
    )
    return passes > 1 or not any(trace.summary(p, Role.GRADIENT, step) for p in trace.of_kind(Kind.PARAMETER))


def _finite(trace: Trace, step: int) -> bool:
    return math.isfinite(trace.objective.get(step, math.nan))


def _breaks(trace: Trace, counts: Callable[[int], bool]) -> Iterator[tuple[Site, dict[int, int]]]:
    """Yield the operations that made gradients of parameters non-finite, and how many elements at which steps."""
    for site in trace.of_kind(Kind.OPERATION):
        made = {step: int(number) for step, number in trace.scalars(site, "made_nonfinite")}
        made = {step: number for step, number in made.items() if trace.scalar(site, "reached", step) and counts(step)}
        if made:
            yield site, made


def _last_layer(trace: Trace, step: int) -> Site | None:
    """Return the last site in execution order with a non-finite gradient at its output, else such a parameter."""
    sites = [
        site
        for site in trace.sites
        if (summary := trace.summary(site, Role.OUTPUT_GRADIENT, step)) is not None and summary.nonfinite
    ] or [
        site
        for site in trace.of_kind(Kind.PARAMETER)
        if (summary := trace.summary(site, Role.GRADIENT, step)) is not None and summary.nonfinite
    ]
    return max(sites, key=lambda site: site.order, default=None)
