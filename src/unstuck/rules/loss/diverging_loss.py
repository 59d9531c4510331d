"""L012. After https://developers.google.com/machine-learning/testing-debugging/metrics/interpretic (loss curves)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.objective import curve, factors, is_steady, main_loss, several_objectives, targets_move, totals
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.update.oversized_updates import MAX_RATIO
from unstuck.rules.updates import recent_ratio, weight_matrices
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Signal, Trace
from unstuck.trace.trace import Vector

MAX_RISE = 1.5  # times the best window's median; U-shaped noise of a finished training stays below 1.3
MIN_REGAIN = 0.2  # of the first window's median; a loss of a thousandth that triples has not diverged
WINDOWS = 10  # parts of the run, each judged by its median
MIN_STEPS = 60  # losses; a window has at least six
NEAR_WORST = 0.8  # of the highest window after the best (1): a loss that comes back from a bump is below
MIN_SIGMAS = 5.0  # standard errors of the difference of two medians
MEDIAN_ERROR = 1.2533 * 1.4826  # standard error of a median, times √n, over the median absolute deviation; normal noise
OF_FIRST = 3.0  # times the first loss, by every loss of the last window; working programs of the tuned half: 0.65
OF_ITSELF = 1.25  # times; by how much the known loss itself has risen, where a penalty is part of the objective


class DivergingLoss(Rule):
    """The loss rises for good: it ends far above its best.

    ## What it does
    Cuts the run into ten windows and compares their median losses. It fires when the last one is more than 1.5 times
    the lowest and has won back more than a fifth of the first one's loss, when it is near the highest since then, and
    when the difference is far beyond the noise (five standard errors); or when every loss of the last window is more
    than three times the very first. A loss that takes values below zero has to end above its start by five times the
    noise of a step.

    ## Why is this bad
    The training goes away from what it had found. Whatever is saved at the end is worse than an earlier state.

    ## Evidence
    The medians of the first, lowest and last window.

    ## Stays silent on
    Losses that are noisy and flat, or come back from a bump; several objectives (a GAN); targets that move, as the
    values of reinforcement learning do; a penalty whose weight is raised while the loss itself stays; runs of fewer
    than 60 known losses (reported as not checked).

    ## Example
        schedule = LambdaLR(optimizer, lambda step: step / warmup)  # never stops rising

    ## Fix
    Lower the learning rate (`scale-learning-rate`), or stop its rise; look for terms of the update with the wrong sign.

    ## References
    - Interpreting loss curves, https://developers.google.com/machine-learning/crash-course/overfitting/interpreting-loss-curves
    """

    code = "L012"
    name = "diverging-loss"
    stage = Stage.OUTCOME
    severity = Severity.WARNING
    needs = (Signal.LOSS_VALUES,)
    explains = ("L011",)
    fixes = ("scale-learning-rate",)
    max_rise = Threshold(MAX_RISE, "times the best window's median")
    max_of_first = Threshold(OF_FIRST, "times the first loss")
    min_regain = Threshold(MIN_REGAIN, "of the first window's median")
    min_sigmas = Threshold(MIN_SIGMAS, "standard errors")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs enough losses for ten windows."""
        if missing := super().lacking(trace):
            return missing
        return None if len(trace.objective) >= MIN_STEPS else f"the loss at {MIN_STEPS} steps"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the objective of the run as a whole."""
        steps, values = curve(trace)
        loss = main_loss(trace)
        if len(values) < MIN_STEPS or several_objectives(trace) or (loss is not None and targets_move(trace, loss)):
            return
        width = len(values) // WINDOWS
        windows = values[len(values) - WINDOWS * width :].reshape(WINDOWS, width)
        medians = np.median(windows, axis=1)
        best = int(medians.argmin())
        first, lowest, last = (float(medians[i]) for i in (0, best, -1))
        if self._diverges(windows, medians, best):
            risen = (last / lowest, self.max_rise, "times the lowest") if lowest > 0 else (last, first, "loss")
        elif steps[0] == 0 and 0 < self.max_of_first * values[0] < windows[-1].min():
            risen = (last / float(values[0]), self.max_of_first, "times the first loss")
        else:
            return
        if not _of_itself(trace):
            return
        measured, threshold, unit = risen
        yield self.finding(
            loss,
            steps=(int(steps[0]), int(steps[-1])),
            measured=measured,
            threshold=threshold,
            unit=unit,
            message=(
                f"the loss ends at {last:.3g} (median of the last {width} known), after {lowest:.3g} at its lowest "
                f"and {first:.3g} at first, and is still up"
            ),
            evidence=(Evidence("lowest median", lowest), Evidence("first median", first)),
            fixes=self.fixes if _by_its_updates(trace) else (),
        )

    def _diverges(self, windows: Vector, medians: Vector, best: int) -> bool:
        first, lowest, last = medians[0], medians[best], medians[-1]
        deviations = np.median(np.abs(windows - medians[:, None]), axis=1)
        error = MEDIAN_ERROR * float(np.hypot(deviations[best], deviations[-1])) / windows.shape[1] ** 0.5
        if windows.min() <= 0:
            return bool(last - first > self.min_sigmas * MEDIAN_ERROR * deviations.max() and last >= medians.max())
        risen = last > self.max_rise * lowest and last - lowest > max(self.min_regain * first, self.min_sigmas * error)
        return bool(risen and last - lowest >= NEAR_WORST * (medians[best:].max() - lowest))


def _by_its_updates(trace: Trace) -> bool:
    """Tell whether weight matrices change as much in the later half of the run as U001 finds too much."""
    ratios = [recent_ratio(trace, weight, (0, trace.steps[-1])) for weight in weight_matrices(trace)]
    return any(ratio > MAX_RATIO for ratio in ratios)


def _of_itself(trace: Trace) -> bool:
    """Tell whether the known losses, where there are any, are all of the objective or have risen too."""
    _, factor = factors(trace)
    values = np.array([value for _, value in sorted(totals(trace).items()) if np.isfinite(value)])
    if len(values) < MIN_SAMPLED_STEPS or is_steady(factor):
        return True
    medians = np.median(sliding_window_view(values, MIN_SAMPLED_STEPS), axis=1)
    return bool(medians[-1] > OF_ITSELF * medians.min())
