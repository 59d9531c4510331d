"""L003. After https://github.com/karpathy/nn-zero-to-hero (makemore, part 3): the loss curve like a hockey stick."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from unstuck.findings import Evidence, Finding
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

EARLY = 1_000  # steps; the window of the start
MIN_STEPS = 12  # sampled steps in it; ten of them are the first
MIN_SPAN = 30  # steps in it; zoo/healthy/mirror_words shows 100 % with 1.6 times up to step 24, at step 28 55 %
MIN_SHARE = 0.8  # of the window's fall in loss; in the tuned half a working program reaches 0.24, the faulty one 0.95
MIN_SHRINK = 2.0  # times; logits shrink so far in working programs too, but at most 57 % of the fall comes with it
MIN_EXCESS = 0.1  # nat above the baseline at the start; default-initialised heads start within it
MIN_STD = 0.5  # of the logits at the start (1); about half its square is what it costs, in nats
MIN_NOISE = 3.0  # robust standard deviations of the loss at the end of the window; the fall must be more than chance
SMOOTH = 2  # sampled steps to either side, for a running median
ROBUST = 1.4826  # times the median absolute deviation is the standard deviation of normal numbers
CLASSIFICATIONS = frozenset({"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "objective"})

Numbers = npt.NDArray[np.float64]


class HockeyStick(Rule):
    """Most of the early fall in loss is the shrinking of logits that were too large at the start.

    ## What it does
    Follows the loss and the standard deviation of the logits over the first 1,000 steps (of a shorter run all, but at
    least 30). It fires when the loss starts above its baseline, the logits shrink to half of their first spread or
    less, and at least 80 % of the window's fall in loss has happened by then.

    ## Why is this bad
    The steep first part of the curve looks like learning, but it only undoes the initial weights of the output layer.
    Steps are spent on it, the layers below get gradients that have little to do with the data meanwhile, and what is
    learnt later is hard to see on the same axis.

    ## Evidence
    The share of the fall, the logits' standard deviation at the start and at its smallest, the loss at the start.

    ## Stays silent on
    Steep starts whose logits keep or gain spread; logits that shrink while most of the fall comes later; starts at the
    baseline; runs that loaded weights; regression.

    ## Example
        head = nn.Linear(64, 256)
        nn.init.normal_(head.weight, std=0.5)

    ## Fix
    Scale the output layer's initial weights down, and start its bias at zero or at the logarithm of the class
    frequencies, so that the loss starts at the baseline: `shrink-output-layer` does both.

    ## References
    - makemore, part 3: activations and gradients, https://github.com/karpathy/nn-zero-to-hero
    - A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/
    """

    code = "L003"
    name = "hockey-stick"
    stage = Stage.LOSS
    needs = (Signal.START, Signal.LOSS_CALL)
    fixes = ("shrink-output-layer",)
    min_share = Threshold(MIN_SHARE, "of the early fall in loss")
    min_shrink = Threshold(MIN_SHRINK, "times, the fall of the logits' standard deviation")
    min_excess = Threshold(MIN_EXCESS, "nat above the baseline")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs logits and a baseline at enough early steps."""
        if missing := super().lacking(trace):
            return missing
        if any(_early(trace, site) is not None for site in trace.of_kind(Kind.LOSS)):
            return None
        return f"a classification loss and its logits at {MIN_STEPS} sampled steps of the first {MIN_SPAN} or more"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each classification loss by the window."""
        if trace.facts.weights_loaded:
            return
        for site in trace.of_kind(Kind.LOSS):
            seen = _early(trace, site)
            if seen is None:
                continue
            steps, losses, stds, baseline = seen
            finding = self._judge(site, steps, losses, stds, baseline)
            if finding is not None:
                yield finding

    def _judge(
        self, site: Site, steps: npt.NDArray[np.int64], losses: Numbers, stds: Numbers, baseline: float
    ) -> Finding | None:
        smooth_losses, smooth_stds = _smoothed(losses), _smoothed(stds)
        least = int(np.argmin(smooth_stds))
        last = losses[-max(4, len(losses) // 4) :]
        end = float(np.median(last))
        noise = ROBUST * float(np.median(np.abs(last - end)))
        fall, by_then = losses[0] - end, losses[0] - smooth_losses[least]
        if losses[0] - baseline < self.min_excess or stds[0] < MIN_STD or smooth_stds[least] <= 0:
            return None
        if fall <= MIN_NOISE * noise:
            return None
        shrink, share = float(stds[0] / smooth_stds[least]), float(min(1.0, by_then / fall))
        if shrink < self.min_shrink or share < self.min_share:
            return None
        return self.finding(
            site,
            steps=(0, int(steps[least])),
            measured=100 * share,
            threshold=100 * self.min_share,
            unit="%",
            message=(
                f"{share:.0%} of the fall in loss of the first {steps[-1] + 1} steps came while the logits shrank: "
                f"their standard deviation fell from {stds[0]:.2f} to {smooth_stds[least]:.2f} by step {steps[least]}"
            ),
            evidence=(
                Evidence("fall of the logits' standard deviation", shrink, "times"),
                Evidence("loss at the start", float(losses[0]), "nat"),
                Evidence("baseline", baseline, "nat"),
                Evidence("loss at the end of the window", end, "nat"),
            ),
        )


def _early(trace: Trace, site: Site) -> tuple[npt.NDArray[np.int64], Numbers, Numbers, float] | None:
    """Return steps, losses, standard deviations of the logits, and the baseline at step 0; None when too few."""
    if site.op not in CLASSIFICATIONS:
        return None
    values: dict[int, list[float]] = defaultdict(list)
    for call in trace.loss_calls:
        if call.site == site.index and call.step < EARLY and math.isfinite(call.value):
            values[call.step].append(call.value)
    stds = {int(step): float(std) for step, std in zip(*_spread(trace, site), strict=True) if math.isfinite(std)}
    steps = sorted(values.keys() & stds.keys())
    first = [call.baseline for call in trace.loss_at_start() if call.site == site.index and call.baseline is not None]
    if len(steps) < MIN_STEPS or steps[0] != 0 or steps[-1] < MIN_SPAN - 1 or not first:
        return None
    losses = np.array([np.mean(values[step]) for step in steps])
    return np.array(steps), losses, np.array([stds[step] for step in steps]), float(np.mean(first))


def _spread(trace: Trace, loss: Site) -> tuple[npt.NDArray[np.int64], Numbers]:
    """Return (steps, standard deviations) of what the loss is given; of the layer before a hand-written loss."""
    series = trace.series(loss, Role.INPUT, "std")
    if len(series[0]):
        return series
    sources = trace.producers(loss, direct=False)
    sources += [s for source in sources if source.kind is Kind.SOFTMAX for s in trace.producers(source)]
    layers = [site for site in sources if site.kind is Kind.WEIGHT_LAYER]
    return trace.series(layers[0], Role.OUTPUT, "std") if len(layers) == 1 else series


def _smoothed(values: Numbers) -> Numbers:
    """Return the running median."""
    n = len(values)
    return np.array([np.median(values[max(0, i - SMOOTH) : min(n, i + SMOOTH + 1)]) for i in range(n)])
