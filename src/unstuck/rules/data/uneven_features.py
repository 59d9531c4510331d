"""D003. After LeCun et al. 1998, section 4.3, https://doi.org/10.1007/3-540-49430-8_2."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import float_inputs
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.rules.wording import ratio_of
from unstuck.stats.summary import FloatArray, UnitSummary
from unstuck.trace import Role, Signal, Site, Trace

MAX_RATIO = 1e3  # times (1), of features' scales; 8-bit pixels stay below 255 whatever is done to all of them together
SPARSE = 0.5  # share of zeros; above it a feature's scale is that of its other values
BOUND = 1.0  # a feature's largest value; sines, codes and pixels that are brought to it are scaled already
ROUNDING = 1e-6  # of a feature's largest value; float32 computes a constant feature to that precision


class UnevenFeatures(Rule):
    """Features of the input live on scales that are more than a thousand times apart.

    ## What it does
    Takes the standard deviation of the input's largest feature over all sampled steps (of its values other than zero,
    where most are zero) and half the range of the smallest one that varies. It fires when their ratio exceeds 1,000.

    ## Why is this bad
    The gradient of a weight is proportional to its feature. One learning rate cannot serve features a thousand times
    apart: the largest sets the limit of what is stable, and next to it the smallest has no say at initialisation and
    next to no gradient.

    ## Evidence
    The ratio, both features, and the number of features that vary.

    ## Stays silent on
    One-hot, binary and other sparse features, judged by their values and not by how often they occur; constant
    features; features that all lie between -1 and 1, as sines of the time do; what embeddings look up; layers that are
    sometimes given what the network made.

    ## Example
        x = torch.stack([income, age, interest_rate], dim=1)  # 50,000, 40 and 0.03

    ## Fix
    Standardise each feature apart, with the training data's means and standard deviations; take the logarithm of those
    that span decades. `standardise-input` does the former in front of a module.

    ## References
    - Efficient BackProp, https://doi.org/10.1007/3-540-49430-8_2
    - scikit-learn, importance of feature scaling,
      https://scikit-learn.org/stable/auto_examples/preprocessing/plot_scaling_importance.html
    """

    code = "D003"
    name = "uneven-features"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = ("A001", "A002", "A003", "D001", "G001", "G002", "I002", "L001", "L012", "L013", "L014", "U001", "U003")
    fixes = ("standardise-input",)
    max_ratio = Threshold(MAX_RATIO, "times, of features' scales")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs data with several features."""
        if missing := super().lacking(trace):
            return missing
        return None if any(_judged(trace)) else "float data of several features that a layer takes"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the features of each layer's data over all sampled steps together."""
        for site, units in _judged(trace):
            steps, _ = trace.series(site, Role.INPUT, "count")
            varies, spread, half_range = _scales(units)
            if varies.sum() < 2 or _largest(units).max() <= BOUND or not seen_enough(trace, len(steps)):
                continue
            large = int(np.argmax(np.where(varies, spread, -np.inf)))
            small = int(np.argmin(np.where(varies, half_range, np.inf)))
            ratio = float(spread[large] / half_range[small])
            if ratio <= self.max_ratio:
                continue
            yield self.finding(
                site,
                steps=(int(steps[0]), int(steps[-1])),
                measured=ratio,
                threshold=self.max_ratio,
                unit="1",
                message=(
                    f"feature {large} of the input of {site.label} has standard deviation {spread[large]:.2g}, while "
                    f"feature {small} stays within {2 * half_range[small]:.2g}: their scales are "
                    f"{ratio_of(ratio)} times apart"
                ),
                evidence=(
                    Evidence("standard deviation of the largest feature", float(spread[large])),
                    Evidence("half the range of the smallest feature", float(half_range[small])),
                    Evidence("features that vary", float(varies.sum()), f"of {len(units)}"),
                ),
                fixes=self.fixes if site.path else (),  # the wrapper needs a module to stand before
            )


def _judged(trace: Trace) -> Iterator[tuple[Site, UnitSummary]]:
    """Yield the layers whose data has several features, and what is known of these."""
    for site in float_inputs(trace):
        units = trace.merged(site, Role.INPUT).units
        if units is not None and len(units) > 1:
            yield site, units


def _largest(units: UnitSummary) -> FloatArray:
    return np.maximum(np.abs(units.minimum), np.abs(units.maximum))


def _scales(units: UnitSummary) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], FloatArray, FloatArray]:
    """Return, by feature, whether it varies, its standard deviation, and half its range."""
    finite = np.maximum(units.count - units.nonfinite, 1)
    sparse = units.zeros > SPARSE * finite
    others = np.sqrt(units.squares / np.maximum(finite - units.zeros, 1))
    largest = _largest(units)
    with np.errstate(invalid="ignore"):
        width = units.maximum - units.minimum
        varies = np.isfinite(width) & (width > ROUNDING * largest)
    half_range = np.where(sparse, largest, width / 2)
    return varies, np.where(sparse, others, np.sqrt(np.nan_to_num(units.variance))), half_range
