"""N003. After Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.evaluation import copied, evaluations, twin
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Signal, Site, Trace

MAX_DIVERGENCE = 0.125  # nats between normal distributions, median over units and batches: that of means 0.5 std apart,
# of 1.9 times the variance, or of 1/2.2 of it; by chance two draws of 16 samples differ by some 0.05
MIN_SAMPLES = 16  # in a training batch; values of one sample are alike, so that means of fewer differ by chance
MIN_VALUES = 32  # values a unit; the mean of fewer is off by more than 0.18 std, the variance by more than 25 %
MIN_BATCHES = 4  # sampled training steps; one batch may be odd
SETTLING = 3.0  # times 1 / momentum steps, after which 95 % of the running statistics are of those batches


Point = tuple[int, float, float, float]  # step, divergence, shift of the mean, ratio of the variances


class StaleRunningStats(Rule):
    """Batch normalisation evaluates with running statistics that are not those of its batches.

    ## What it does
    Looks at batch normalisations that use their running statistics in a pass without gradients. For a copy of a trained
    network (with averaged weights, say) it fires when those stay the initial ones, and the batches there have
    another mean or another variance: the divergence of normal distributions with these moments is above 0.125 nats,
    median over the units, as it is for means half a standard deviation apart, or about twice the variance. For trained
    layers it compares the training batches of the later half of the run with the running statistics in the same way,
    once three times 1 / momentum steps have passed.

    ## Why is this bad
    In eval mode each unit is shifted and scaled by the running statistics. If they belong to other inputs or other
    weights, the network computes a function that it was never trained for, although its weights are right.

    ## Evidence
    The divergence, the distance of the means in standard deviations, the ratio of the variances, the number of batches.

    ## Stays silent on
    Layers whose running statistics nobody uses; the first 3 / momentum steps; batches of fewer than 16 samples or 32
    values a unit, which differ by chance (N002); layers in eval mode from the start (fine-tuning with frozen
    statistics). Losses of the two modes are not compared: programs hardly ever run one batch in both, and on different
    ones dropout, augmentation and overfitting set the losses apart as well; the statistics are what differs.

    ## Example
        for kept, new in zip(average.parameters(), model.parameters()):  # buffers are left behind
            kept.lerp_(new, 0.05)

    ## Fix
    Copy the buffers along with averaged weights, or recalibrate with `torch.optim.swa_utils.update_bn`; pass batches
    from different sources through the network together, or give each source norms of its own.
    `recalibrate-running-statistics` measures them anew.

    ## References
    - Rethinking "Batch" in BatchNorm, https://arxiv.org/abs/2105.07576
    - torch.optim.swa_utils.update_bn, https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
    """

    code = "N003"
    name = "stale-running-stats"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    fixes = ("recalibrate-running-statistics",)
    max_divergence = Threshold(MAX_DIVERGENCE, "nats")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs running statistics in use."""
        if missing := super().lacking(trace):
            return missing
        used = any(_used(trace, site) for site in evaluations(trace, "batch_norm"))
        return None if used else "batch normalisation by running statistics in a pass without gradients"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each batch normalisation that is used in eval mode; the first stale one of a network speaks for all."""
        trained: list[Site] = []
        reported = False
        for site in evaluations(trace, "batch_norm"):
            if not _used(trace, site):
                continue
            own = twin(trace, site)
            if own is not None:
                trained.append(own)
            elif not reported and copied(trace, site) is not None:
                for finding in self._judge(site, _initial(trace, site), "evaluated"):
                    reported = True
                    yield finding
        for index in sorted({site.index for site in trained}):
            yield from self._judge(trace.sites[index], _settled(trace, trace.sites[index]), "training")

    def _judge(self, site: Site, points: list[Point], batches: str) -> Iterator[Finding]:
        if not points:
            return
        divergence, shift, ratio = (float(np.median([point[k] for point in points])) for k in (1, 2, 3))
        if not math.isfinite(divergence) or divergence <= self.max_divergence:
            return
        yield self.finding(
            site,
            steps=(points[0][0], points[-1][0]),
            measured=divergence,
            threshold=self.max_divergence,
            unit="nats",
            message=(
                f"the running statistics of {site.label} are not those of the {batches} batches: the means are "
                f"{shift:.2g} standard deviations apart, the variances differ {ratio:.2g}-fold (medians over the units)"
            ),
            evidence=(
                Evidence("distance of the means", shift, "std"),
                Evidence("ratio of the variances", ratio),
                Evidence("batches", float(len(points)), "batches"),
            ),
            fixes=self.fixes if batches == "evaluated" else (),  # batches of two sources have no statistics in common
        )


def _used(trace: Trace, site: Site) -> bool:
    return bool(trace.scalars(site, "mean_shift"))


def _point(trace: Trace, site: Site, step: int) -> Point:
    names = ("divergence", "mean_shift", "variance_ratio")
    divergence, shift, ratio = (trace.scalar(site, name, step) for name in names)
    return step, divergence or 0.0, shift or 0.0, ratio or 1.0


def _initial(trace: Trace, site: Site) -> list[Point]:
    """Return the evaluations by statistics that are the initial ones still: at the latest one, too."""
    seen = trace.scalars(site, "initial_statistics")
    steps = [step for step, initial in seen if initial and seen[-1][1]]
    return [_point(trace, site, step) for step in steps if _number(trace, site, "elements", step) >= MIN_VALUES]


def _settled(trace: Trace, site: Site) -> list[Point]:
    """Return the training batches in the later half of the run, once the running statistics have settled."""
    points = []
    for step, momentum in trace.scalars(site, "momentum"):
        samples, values = (_number(trace, site, name, step) for name in ("samples", "values_per_unit"))
        late = momentum > 0 and step >= SETTLING / momentum and 2 * step >= max(trace.steps)
        if late and samples >= MIN_SAMPLES and values >= MIN_VALUES:
            points.append(_point(trace, site, step))
    return points if len(points) >= MIN_BATCHES else []


def _number(trace: Trace, site: Site, name: str, step: int) -> float:
    return trace.scalar(site, name, step) or 0.0
