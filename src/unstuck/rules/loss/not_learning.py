"""L013. After https://karpathy.github.io/2019/04/25/recipe/ (human baseline, input-independent baseline)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.objective import curve, factors, is_steady, prior_entropy, several_objectives, targets_move
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Kind, Signal, Site, Trace
from unstuck.trace.trace import Vector

MIN_STEPS = 200  # steps; judged from step 40 on, two working programs of the tuned half are named, up to step 80
WINDOWS = 10  # parts of the run, each judged by its mean
MAX_SIGMAS = 3.0  # standard errors of the mean over sampled batches
MIN_GAIN = 0.02  # of the baseline, with half as many; tuned half: a slow starter has 0.025, what never learns 0.0065
RISING = 1.05  # times the learning rate of the third quarter; constant and decaying ones have 1 at most
CLOSE = 1e-3  # nat; a baseline that is ln(classes) or ln 2 has no class weights in it


class NotLearning(Rule):
    """After hundreds of steps the loss is where knowing nothing would have it.

    ## What it does
    Compares each loss, at the sampled steps of the run's second half, with its baseline on the same batch: that of
    uninformative predictions, made with the classes' frequencies or the targets' mean. It fires when no loss of the run
    is below its baseline by more than three standard errors (or half as many, if that is 2 % of it), nor was the mean
    over any tenth of the run, after at least 200 steps, and the loss no longer falls.

    ## Why is this bad
    Nothing of the inputs has reached the predictions. Further steps seldom change that: inputs and targets do not
    belong together, the gradient does not arrive, or the step is far too small or too large.

    ## Evidence
    The mean loss and the mean baseline of the second half, and the standard error of their difference.

    ## Stays silent on
    Runs of fewer than 200 steps and learning rates that still rise (reported as not checked or passed over); losses
    that are still falling, from however high; runs with one loss that is learned; several objectives (a GAN's
    discriminator ends at its baseline); targets that move; losses without a known baseline.

    ## Example
        x, y = x[torch.randperm(n)], y[torch.randperm(n)]  # pairs no more

    ## Fix
    By cause: overfit one batch first; look at the pairs that enter the loss; then at gradients and updates.

    ## References
    - A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/
    """

    code = "L013"
    name = "not-learning"
    stage = Stage.OUTCOME
    severity = Severity.WARNING
    needs = (Signal.LOSS_VALUES, Signal.LOSS_CALL)
    min_steps = Threshold(MIN_STEPS, "steps")
    max_sigmas = Threshold(MAX_SIGMAS, "standard errors")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs some hundred steps."""
        if missing := super().lacking(trace):
            return missing
        return None if max(trace.objective) + 1 >= self.min_steps else f"{self.min_steps:g} steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge all losses with a baseline; the run learns when one of them does."""
        if several_objectives(trace) or _warms_up(trace) or _still_falls(trace, self.max_sigmas):
            return
        half = max(trace.objective) // 2
        judged = []
        for loss in trace.of_kind(Kind.LOSS):
            steps, values, baselines = _pairs(trace, loss, half)
            if len(values) < MIN_SAMPLED_STEPS:
                continue
            gains = baselines - values
            error = float(gains.std(ddof=1)) / len(gains) ** 0.5
            gain, surely = float(gains.mean()), self.max_sigmas * error
            begun = gain > max(surely / 2, MIN_GAIN * float(baselines.mean()))
            learned = begun or gain > surely or _has_been_below(trace, baselines, self.max_sigmas)
            if learned or targets_move(trace, loss):
                return
            judged.append((loss, steps, float(values.mean()), float(baselines.mean()), error))
        for loss, steps, value, baseline, error in judged[:1]:
            yield self.finding(
                loss,
                steps=(steps[0], steps[-1]),
                measured=value,
                threshold=baseline - self.max_sigmas * error,
                unit="loss",
                message=(
                    f"{loss.op} is {value:.4g} on average ({len(steps)} sampled steps from {steps[0]} to {steps[-1]}); "
                    f"without looking at the inputs it would be {baseline:.4g}"
                ),
                evidence=(Evidence("baseline", baseline), Evidence("standard error of the difference", error)),
            )


def _pairs(trace: Trace, loss: Site, after: int) -> tuple[list[int], Vector, Vector]:
    """Return the steps from `after` on, the values of a loss there and what knowing only the targets would give."""
    calls = [
        call
        for call in trace.loss_calls
        if call.site == loss.index and call.step >= after and call.baseline is not None and math.isfinite(call.value)
    ]
    prior = prior_entropy(trace, loss)
    baselines = []
    for call in calls:
        baseline = float(call.baseline or 0.0)
        elements = trace.scalar(loss, "target_elements", call.step) or 0.0
        if prior is not None and abs(baseline - prior[0]) < CLOSE:
            baseline = min(baseline, prior[1])
        elif loss.op == "mse_loss" and elements > 1:
            baseline *= elements / (elements - 1)  # about the mean of all targets, not of this batch alone
        baselines.append(baseline)
    return [call.step for call in calls], np.array([call.value for call in calls]), np.array(baselines)


def _has_been_below(trace: Trace, baselines: Vector, sigmas: float) -> bool:
    """Tell whether the losses of a tenth of the run, unsampled steps included, were below the baseline on average.

    Only where the objective is the known losses times a constant.
    """
    _, factor = factors(trace)
    _, values = curve(trace)
    width = len(values) // WINDOWS
    if width < MIN_SAMPLED_STEPS or not is_steady(factor):
        return False
    windows = values[len(values) - WINDOWS * width :].reshape(WINDOWS, width) / float(np.median(factor))
    errors = np.hypot(windows.std(axis=1, ddof=1) / width**0.5, baselines.std(ddof=1) / len(baselines) ** 0.5)
    return bool(np.any(baselines.mean() - windows.mean(axis=1) > sigmas * errors))


def _warms_up(trace: Trace) -> bool:
    """Tell whether a learning rate is higher at the end than it was after three quarters of the sampled steps."""
    for site in trace.of_kind(Kind.OPTIMIZER):
        rates = [value for _, value in trace.scalars(site, "lr")]
        if rates and rates[-1] > RISING * rates[3 * len(rates) // 4 - 1]:
            return True
    return False


def _still_falls(trace: Trace, sigmas: float) -> bool:
    """Tell whether the objective's last quarter is below the one before by more than the noise."""
    _, values = curve(trace)
    quarter = len(values) // 4
    if quarter < MIN_SAMPLED_STEPS:
        return False
    before, last = values[-2 * quarter : -quarter], values[-quarter:]
    error = math.hypot(before.std(ddof=1), last.std(ddof=1)) / quarter**0.5
    return bool(before.mean() - last.mean() > sigmas * error)
