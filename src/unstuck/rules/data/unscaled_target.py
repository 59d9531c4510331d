"""D004. After LeCun et al. 1998, section 4.5 (choosing target values), https://doi.org/10.1007/3-540-49430-8_2."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import heads
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_SCALE = 100.0  # of the targets (1), in mean or standard deviation; a new linear layer's outputs have about 1
FIRST_SAMPLES = 5  # sampled steps; later predictions may have come near the targets

REGRESSIONS = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})


class UnscaledTarget(Rule):
    """The targets of a regression are far larger than what the output layer makes at start.

    ## What it does
    Takes mean and standard deviation of the targets of `mse_loss`, `l1_loss`, `smooth_l1_loss` and `huber_loss` where
    a weight layer makes the predictions. It fires when one of the two exceeds 100 (median over the sampled steps) and
    the predictions of the first sampled steps are away from it by more than 100.

    ## Why is this bad
    The output layer has to grow its weights and bias a hundredfold before the predictions are of the right size, with
    a learning rate made for weights of size 1. The squared error and its gradients start in the ten thousands, which
    upsets the layers below; an absolute error has gradients of size 1 and takes thousands of updates to get there.

    ## Evidence
    Mean and standard deviation of targets and of first predictions.

    ## Stays silent on
    Outputs that are multiplied to the targets' scale inside the network, or whose bias starts at the mean of targets
    that spread little; targets that become large only later (returns in reinforcement learning); likelihoods with a
    logarithmic link such as `poisson_nll_loss`.

    ## Example
        loss = F.mse_loss(model(x), seconds)  # 900 on average

    ## Fix
    Train on `(y - mean) / std` with the training targets' mean and standard deviation, and undo it on the predictions.

    ## References
    - Efficient BackProp, https://doi.org/10.1007/3-540-49430-8_2
    - scikit-learn, transforming the target in regression,
      https://scikit-learn.org/stable/modules/compose.html#transforming-target-in-regression
    """

    code = "D004"
    name = "unscaled-target"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("A002", "G002", "L001", "L003", "L012", "L013", "L014", "U001", "U002", "U003")
    max_scale = Threshold(MAX_SCALE, "mean or standard deviation of the targets")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a regression loss on the output of a weight layer."""
        if missing := super().lacking(trace):
            return missing
        return None if any(_judged(trace)) else "a call of a regression loss on the output of a weight layer"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the targets of each regression loss."""
        for loss in _judged(trace):
            means, stds = ([v for _, v in trace.scalars(loss, f"target_{name}")] for name in ("mean", "std"))
            steps = [step for step, _ in trace.scalars(loss, "target_mean")]
            if not means or not seen_enough(trace, len(means)):
                continue
            mean, std = float(np.median(means)), float(np.median(stds))
            made = _first_predictions(trace, loss)
            scale = max(abs(mean), std)
            if made is None or not scale > self.max_scale:
                continue
            made_mean, made_std = made
            if max(abs(mean - made_mean), std - made_std) <= self.max_scale:
                continue
            yield self.finding(
                loss,
                steps=(steps[0], steps[-1]),
                measured=scale,
                threshold=self.max_scale,
                unit="1",
                message=(
                    f"the targets of {loss.op} have mean {mean:.3g} and standard deviation {std:.3g}; the predictions "
                    f"start at mean {made_mean:.2g} and standard deviation {made_std:.2g}"
                ),
                evidence=(
                    Evidence("mean of the targets", mean),
                    Evidence("standard deviation of the targets", std),
                    Evidence("mean of the first predictions", made_mean),
                    Evidence("standard deviation of the first predictions", made_std),
                ),
            )


def _judged(trace: Trace) -> Iterator[Site]:
    for loss in trace.of_kind(Kind.LOSS):
        if loss.op in REGRESSIONS and trace.scalars(loss, "target_mean") and heads(trace, loss):
            yield loss


def _first_predictions(trace: Trace, loss: Site) -> tuple[float, float] | None:
    """Return the medians of the predictions' mean and standard deviation over the first sampled steps."""
    means, stds = (trace.series(loss, Role.INPUT, name)[1][:FIRST_SAMPLES] for name in ("mean", "std"))
    known = [(m, s) for m, s in zip(means.tolist(), stds.tolist(), strict=True) if math.isfinite(m)]
    if not known:
        return None
    return float(np.median([m for m, _ in known])), float(np.median([s for _, s in known]))
