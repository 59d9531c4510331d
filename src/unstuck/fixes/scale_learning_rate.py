"""scale-learning-rate: bring the update-to-data ratio of the weight matrices near its guide.

An update is proportional to the learning rate, so the factor that a ratio is off its guide by is the factor for the
rate (https://cs231n.github.io/neural-networks-3/#ratio), one for each parameter group. It is rounded to 1, 2 or 5 times
a power of ten, which is as exactly as a ratio can be known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch.optim.optimizer import Optimizer

from unstuck.findings import Finding
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.stepping import RateScale, factor_of
from unstuck.rules.graph import Graph
from unstuck.rules.objective import SCALE_FREE
from unstuck.rules.update.oversized_updates import MAX_RATIO, OUTPUT_MAX_RATIO
from unstuck.rules.update.undersized_updates import MIN_RATIO
from unstuck.rules.updates import FIRST_STEP, recent_ratio, weight_matrices
from unstuck.trace import Role, Site, Trace

TARGET = (
    5e-3  # update-to-data ratio (1); medians of 21 working programs of the zoo: 0.0014 to 0.017, half 0.0035 to 0.006
)
WITHIN = 0.5  # of the rule's limit (1): the largest that a smaller rate leaves to any matrix; a larger one, all of it
NO_RATE = frozenset({"Rprop", "LBFGS"})
"""Optimizers whose updates are no multiple of their learning rate."""


@dataclass(frozen=True)
class Ratio:
    """A weight matrix's update-to-data ratio, and the largest that it may have."""

    value: float
    limit: float


@dataclass(frozen=True)
class Measured:
    """A parameter group and the ratios of its weight matrices (none where it has no such)."""

    optimizer: Optimizer
    number: int
    ratios: tuple[Ratio, ...]

    def factor(self, *, smaller: bool) -> float | None:
        """Return the factor for its learning rate; None where its ratios are within the limits, or it has none."""
        if smaller and not any(ratio.value > ratio.limit for ratio in self.ratios):
            return None
        if not self.ratios or (not smaller and max(ratio.value for ratio in self.ratios) >= MIN_RATIO):
            return None
        return factor_for(self.ratios, smaller=smaller)


class ScaleLearningRate(Remedy):
    """Scale the learning rate by what the updates are off their guide.

    ## What it does
    Divides 0.005, the update-to-data ratio that working programs have in their first hundreds of steps (0.001 is the
    guide for longer runs), by the median ratio of each parameter group's weight matrices, rounds the factor to 1, 2 or
    5 times a power of ten, and multiplies the group's learning rate by it; less where one matrix would come near its
    limit. The ratio of a matrix is the median over the finding's steps, or the largest of the first 20 steps. Where
    training begins again, it is measured against the weights at the start: the median update of optimizers that do not
    depend on the gradient's size; of others, whose gradients are spoilt by then, the first update of the first 20.
    Groups within the limits keep their rate; groups without weight matrices (biases, norms) follow the others. In a
    script that runs, and under a scheduler, the rate is multiplied during each step alone and put back after it, so
    that every scheduler goes on as before: `param_groups` show the program's own rate. The factor stays on the
    optimizer for as long as that lives, also when the watching has ended. When the updates were too large, the
    parameters go back to where they began, if that is still kept. It may act again at a later check.

    ## When it must not be used
    Where the gradient has the wrong size for another reason: a loss that is divided twice, an outlier in the data.
    In a warm-up, where ratios are small on purpose. It is refused without an optimizer (the factor is then given as an
    advice) and for optimizers whose updates are no multiple of their rate (LBFGS, Rprop).

    ## References
    - CS231n, ratio of weights to updates, https://cs231n.github.io/neural-networks-3/#ratio
    - torch.optim.Optimizer.register_step_pre_hook,
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.register_step_pre_hook.html
    """

    name = "scale-learning-rate"
    in_flight = True
    rewinds = True
    repeats = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Scale the rates of all groups that are out of range."""
        smaller = finding.code != "U002"
        free = bool(patient.optimizers) and all(type(o).__name__ in SCALE_FREE for o in patient.optimizers)
        ratios = ratios_of(patient.trace, finding.steps, since_start=smaller and patient.in_flight, free=free)
        if not ratios:
            raise Withheld("no update of a weight matrix was measured")
        if not patient.optimizers:
            factor = factor_for(tuple(ratios.values()), smaller=smaller)
            raise Withheld(f"there is no optimizer; multiply the learning rate in your own code by {factor:g}")
        chosen = list(_chosen(patient, ratios, smaller=smaller))
        if not chosen:
            raise Withheld("the updates of every parameter group whose rate can be scaled are within the limits")
        if smaller:
            go_back(patient)
        return [self._scale(patient, finding, measured, factor) for measured, factor in chosen]

    def _scale(self, patient: Patient, finding: Finding, measured: Measured, factor: float) -> Fix:
        optimizer, number = measured.optimizer, measured.number
        group = optimizer.param_groups[number]
        own, earlier = float(group["lr"]), factor_of(optimizer, number)
        lasting = ""
        if patient.in_flight or "initial_lr" in group:  # a scheduler would write over it
            RateScale(optimizer, {number: factor})
            lasting = (
                f"\n# the optimizer's steps are multiplied by {factor * earlier:g} from here on; "
                "param_groups show your own rate"
            )
        else:
            group["lr"] = group["lr"] * factor
        now, after = own * earlier, own * earlier * factor
        return self.fix(
            finding,
            site=f"{type(optimizer).__name__}, parameter group {number}",
            statistic="learning rate",
            unit="1",
            before=now,
            after=after,
            snippet=f'optimizer.param_groups[{number}]["lr"] *= {factor * earlier:g}'
            f"  # before a scheduler is made; {own:g} → {after:g} at step {patient.step}{lasting}",
            step=patient.step,
        )


def ratios_of(
    trace: Trace, steps: tuple[int, int], *, since_start: bool = False, free: bool = False
) -> dict[int, Ratio]:
    """Return, by parameter site, the recent update-to-data ratio of each weight matrix that is updated.

    See `recent_ratio` for `steps`. With `since_start`, when training is to begin again, it is the ratio to the weights
    at the start. For optimizers `free` of the gradient's size it is the median over `steps`; for others, whose later
    gradients are those of a network that is spoilt, the first one, where `steps` lie before FIRST_STEP.
    """
    graph, found = Graph(trace), {}
    for weight in weight_matrices(trace):
        value = recent_ratio(trace, weight, steps)
        if since_start and (free or steps[1] < FIRST_STEP):
            value = _ratio_to_start(trace, weight, steps, first=not free, other=value)
        owner = None if weight.owner is None else trace.sites[weight.owner]
        output = owner is not None and graph.is_output_layer(owner)
        if 0 < value < math.inf:
            found[weight.index] = Ratio(value, OUTPUT_MAX_RATIO if output else MAX_RATIO)
    return found


def _ratio_to_start(trace: Trace, weight: Site, steps: tuple[int, int], *, first: bool, other: float) -> float:
    """Return a weight's update over what it was at the start, or is if that is less: the median over `steps`.

    With `first` it is that of the first step, unless that is within the limits (a warm-up): then `other`.
    """
    known, ratios = trace.update_to_data(weight)
    updates = {step: value.rms for step, value in trace.summaries(weight, Role.UPDATE)}
    pairs = [(int(step), float(ratio)) for step, ratio in zip(known, ratios, strict=True) if 0 < ratio < math.inf]
    if not pairs:
        return other
    if first:
        return pairs[0][1] if pairs[0][1] > MAX_RATIO else other
    start = updates[pairs[0][0]] / pairs[0][1]
    found = [max(ratio, updates[step] / start) for step, ratio in pairs if steps[0] <= step <= steps[1]]
    return float(np.median(found)) if found else other


def factor_for(ratios: Sequence[Ratio], *, smaller: bool) -> float:
    """Return the rounded factor for the learning rate by which weight matrices with these ratios are updated.

    Their median comes to the target, unless that takes one of them above half of its limit; above the limit itself
    where the ratios were too small, since they fall as soon as training gets under way.
    """
    worst = max(ratio.value / ratio.limit for ratio in ratios)
    return rounded(
        min(TARGET / float(np.median([ratio.value for ratio in ratios])), (WITHIN if smaller else 1.0) / worst)
    )


def rounded(factor: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten, by the ratio; raises ValueError unless 0 < factor < ∞."""
    if not 0 < factor < math.inf:
        raise ValueError(f"expected a positive number, got {factor}")
    exponent = math.floor(math.log10(factor))
    digit = min((1.0, 2.0, 5.0, 10.0), key=lambda digit: abs(math.log(digit * 10.0**exponent / factor)))
    return float(f"{digit * 10.0**exponent:.6g}")


def _chosen(patient: Patient, ratios: Mapping[int, Ratio], *, smaller: bool) -> Iterator[tuple[Measured, float]]:
    """Yield the groups to be scaled, each with its factor."""
    for optimizer in patient.optimizers:
        if type(optimizer).__name__ in NO_RATE or not all("lr" in group for group in optimizer.param_groups):
            continue
        groups = list(_groups(patient, optimizer, ratios))
        own = {measured.number: measured.factor(smaller=smaller) for measured in groups}
        common = min((factor for factor in own.values() if factor is not None), default=None)
        for measured in groups:
            factor = own[measured.number] if measured.ratios else common
            if factor is not None and factor != 1.0:
                yield measured, factor


def _groups(patient: Patient, optimizer: Optimizer, ratios: Mapping[int, Ratio]) -> Iterator[Measured]:
    by_id = {id(patient.network.parameter(index)): ratio for index, ratio in ratios.items()}
    for number, group in enumerate(optimizer.param_groups):
        yield Measured(optimizer, number, tuple(by_id[id(p)] for p in group["params"] if id(p) in by_id))


def go_back(patient: Patient) -> None:
    """Put the training back to its start where that is kept; raises Withheld where it is not and the weights are NaN.

    Otherwise it goes on from where it is: what was learned is poor, but can be learned anew.
    """
    try:
        patient.rewind()
    except Withheld:
        for optimizer in patient.optimizers:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                if not bool(parameter.detach().isfinite().all()):
                    raise
