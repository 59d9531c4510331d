"""What several rules about updates ask: the weight matrices, who updates them, and how far the loss has come."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np

from unstuck.trace import Kind, Role, Site, Trace
from unstuck.trace.trace import Series

FIRST_STEP = 20  # step; before it small initial weights and Adam's first estimates make large ratios
MIN_STEPS = 5  # sampled steps from FIRST_STEP on, for a median
ENDS = 5  # steps at least of each end of a run, for the loss there
ENDS_SHARE = 0.1  # of a run's steps that each end has
PEAK_SHARE = 0.5  # of the largest learning rate; steps with less belong to a warm-up or a decay
BLOW_UP_LOSS = 3.0  # times the first loss; RMSprop and Adam jump up at first, and come back within ten steps
BLOW_UP_STEPS = (10, 20)  # steps at which the loss must still be that large
JUMP_LOSS = 10.0  # times the first loss, in the steps before those; weights are drawn anew by what follows such a jump
JUMP_STEPS = (1, 10)
RECOVERED = 0.5  # of the first loss; a run that ends below it has recovered from its first steps
EXPLOSION = 10.0  # times the median norm of all gradients; what clipping is for
MIN_NORMS = 8  # sampled steps for a usual norm
RISING = 1.5  # times the first learning rate; a schedule that ends above it, at its largest, is still warming up


def weight_matrices(trace: Trace) -> Iterator[Site]:
    """Yield the weight matrices (and convolution kernels) of weight layers, in order of execution."""
    for site in trace.of_kind(Kind.PARAMETER):
        owned = site.owner is not None and trace.sites[site.owner].kind is Kind.WEIGHT_LAYER
        if owned and site.slot == "weight" and len(site.shape) >= 2:
            yield site


def later_ratios(trace: Trace, weight: Site) -> Series:
    """Return (steps, update-to-data ratios) from FIRST_STEP on."""
    steps, ratios = trace.update_to_data(weight)
    return steps[steps >= FIRST_STEP], ratios[steps >= FIRST_STEP]


def recent_ratio(trace: Trace, weight: Site, steps: tuple[int, int]) -> float:
    """Return the update-to-data ratio of a weight matrix over the later half of the sampled steps from first to last.

    It is the median, or the largest ratio of all where those steps lie before FIRST_STEP; NaN where none is known.
    """
    known, ratios = trace.update_to_data(weight)
    ratios = ratios[(known >= steps[0]) & (known <= steps[1])]
    if not len(ratios):
        return math.nan
    return float(ratios.max() if steps[1] < FIRST_STEP else np.median(ratios[len(ratios) // 2 :]))


def gradient_norms(trace: Trace, parameters: Collection[int] | None = None) -> dict[int, float]:
    """Return, by sampled step, the norm of all gradients (of these parameters') together; infinite where one is."""
    squares: dict[int, float] = {}
    for site in trace.of_kind(Kind.PARAMETER):
        if parameters is None or site.index in parameters:
            for step, summary in trace.summaries(site, Role.GRADIENT):
                squares[step] = squares.get(step, 0.0) + (math.inf if summary.nonfinite else summary.norm**2)
    return {step: math.sqrt(square) for step, square in sorted(squares.items())}


def usual_norms(trace: Trace, parameters: Collection[int] | None = None) -> list[float]:
    """Return the norms that are positive and finite, of steps whose loss was at most three times the first one."""
    start = trace.objective.get(min(trace.objective, default=0), math.inf)
    most = BLOW_UP_LOSS * start if start > 0 else math.inf
    norms = gradient_norms(trace, parameters)
    return [norm for step, norm in norms.items() if 0 < norm < math.inf and trace.objective.get(step, start) <= most]


def gradients_explode(trace: Trace, before: int) -> bool:
    """Tell whether the norm of all gradients, usual at some steps, was far above that, but finite, before a step."""
    usual = usual_norms(trace)
    last = [norm for step, norm in gradient_norms(trace).items() if step < before and norm < math.inf]
    if len(usual) < MIN_NORMS or trace.of_kind(Kind.CLIPPING):
        return False
    return max(last, default=0.0) > EXPLOSION * float(np.median(usual))


def optimizers(trace: Trace) -> dict[int, Site]:
    """Return, by the index of a parameter's site, the optimizer's site that updates it."""
    return {index: site for site in trace.of_kind(Kind.OPTIMIZER) for index in site.parameters}


def full_rate_steps(trace: Trace, optimizer: Site | None) -> set[int] | None:
    """Return the sampled steps at which the learning rate was at least half its largest; None where it is not known.

    Empty when the rate is still rising at the end: a warm-up that is not over.
    """
    rates = [] if optimizer is None else trace.scalars(optimizer, "lr")
    if not rates:
        return None
    first, last, peak = rates[0][1], rates[-1][1], max(rate for _, rate in rates)
    if last == peak and last > RISING * first:
        return set()
    return {step for step, rate in rates if rate >= PEAK_SHARE * peak}


def loss_at_ends(trace: Trace) -> tuple[float, float]:
    """Return the median objective of the first and of the last tenth of the run (NaN where it is not known)."""
    values = [value for _, value in sorted(trace.objective.items())]
    if not values:
        return math.nan, math.nan
    number = max(ENDS, int(len(values) * ENDS_SHARE))
    return float(np.median(values[:number])), float(np.median(values[-number:]))


def mostly_without_gradient(trace: Trace, weight: Site) -> bool:
    """Tell whether a weight's gradient was exactly zero at most sampled steps: nothing used what it makes."""
    zero = [summary.zeros == summary.count for _, summary in trace.summaries(weight, Role.GRADIENT)]
    return sum(zero) * 2 > len(zero)


def early_loss(trace: Trace) -> float:
    """Return the larger median objective of the steps JUMP_STEPS and BLOW_UP_STEPS; NaN when one is not finite."""
    first = [value for step, value in trace.objective.items() if step < FIRST_STEP]
    if not all(math.isfinite(value) for value in first):
        return math.nan
    return max(_median(trace, BLOW_UP_STEPS), _jump(trace))


def _jump(trace: Trace) -> float:
    """Return the median objective of JUMP_STEPS, once it is known whether it came back."""
    return _median(trace, JUMP_STEPS) if max(trace.objective) >= BLOW_UP_STEPS[1] - 1 else -math.inf


def _median(trace: Trace, steps: tuple[int, int]) -> float:
    values = [value for step, value in trace.objective.items() if steps[0] <= step < steps[1]]
    return float(np.median(values)) if values else -math.inf


def blown_up(trace: Trace) -> bool:
    """Tell whether the first updates drove the loss up, and it stayed there or had gone too far to come back well."""
    start = trace.objective.get(min(trace.objective, default=0), math.nan)
    first = [value for step, value in trace.objective.items() if step < FIRST_STEP]
    if not math.isfinite(start) or start <= 0 or len(first) < MIN_STEPS:
        return False
    if not all(math.isfinite(value) for value in first):
        return True
    up = _median(trace, BLOW_UP_STEPS) > BLOW_UP_LOSS * start or _jump(trace) > JUMP_LOSS * start
    return up and not loss_at_ends(trace)[1] < RECOVERED * start
