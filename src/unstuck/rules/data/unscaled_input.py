"""D001. After LeCun et al. 1998, section 4.3, https://doi.org/10.1007/3-540-49430-8_2."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.inputs import float_inputs
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough, span
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_MEAN = 5.0  # of the input (1), either sign; weights are initialised for a mean of 0
MAX_STD = 10.0  # of the input (1); weights are initialised for 1, and pixels from 0 to 255 have 40 to 80
MIN_STD = 0.05  # of the input (1); pixels from 0 to 1 have 0.2 to 0.35
MIN_NORM = 0.5  # of a unit's whole input, rms (1); rows normalised to length 1 have small entries and are meant so
SPARSE = 0.5  # share of zeros; above it the zeros say nothing about the scale


class UnscaledInput(Rule):
    """The data goes into the first layer in numbers far larger or smaller than it is initialised for.

    ## What it does
    Takes mean and standard deviation of the float data that each layer is given from outside the network (medians over
    the sampled steps), and fires when the mean is beyond 5, the standard deviation above 10, or the standard
    deviation below 0.05 while the whole input of a unit is below 0.5 in length. Where most entries are zero, the root
    mean square of the others stands for the standard deviation.

    ## Why is this bad
    Initial weights and usual learning rates are made for inputs of mean 0 and standard deviation 1. The layer's
    outputs and the gradients of its weights grow with the input: too large, the first activations saturate and the
    updates overshoot; too small, the layer starts as a constant and learns late. A mean far from zero gives all
    weights of a unit gradients of one sign.

    ## Evidence
    Mean, standard deviation, smallest and largest number of the input.

    ## Stays silent on
    Integers and what embeddings look up; sparse and one-hot features; rows normalised to length 1; constant inputs,
    such as initial states; layers that are sometimes given what the network made. Where a normalisation layer follows
    the layer at once, the finding is for information only.

    ## Example
        logits = model(images.float())  # pixels from 0 to 255

    ## Fix
    Subtract the training data's mean from each feature and divide by its standard deviation. `standardise-input` does
    so in front of a module.

    ## References
    - Efficient BackProp, https://doi.org/10.1007/3-540-49430-8_2
    - CS231n, data preprocessing, https://cs231n.github.io/neural-networks-2/#datapre
    """

    code = "D001"
    name = "unscaled-input"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    explains = (
        *("A001", "A002", "A003", "G001", "G002", "I002", "I003", "I004", "L001", "L003", "L012", "L013", "L014"),
        *("U001", "U002", "U003"),
    )
    fixes = ("standardise-input",)
    max_mean = Threshold(MAX_MEAN, "mean of the input")
    max_std = Threshold(MAX_STD, "standard deviation of the input")
    min_std = Threshold(MIN_STD, "standard deviation of the input")
    min_norm = Threshold(MIN_NORM, "rms of a unit's whole input")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs float data."""
        if missing := super().lacking(trace):
            return missing
        return None if any(float_inputs(trace)) else "float data that a layer takes from outside the network"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each layer's data by medians over the sampled steps."""
        for site in float_inputs(trace):
            steps, mean, std = _scale(trace, site)
            if not seen_enough(trace, len(steps)):
                continue
            low, high = _extremes(trace, site)
            length = math.hypot(mean, std) * math.sqrt(site.fan_in or 1)
            if not low < high:
                continue
            if abs(mean) > self.max_mean:
                judged = (abs(mean), self.max_mean)
            elif std > self.max_std:
                judged = (std, self.max_std)
            elif std < self.min_std and length < self.min_norm:
                judged = (std, self.min_std)
            else:
                continue
            first, last = span(steps)
            normalised = any(consumer.kind is Kind.NORM for consumer in trace.consumers(site))
            yield self.finding(
                site,
                steps=(first, last),
                measured=judged[0],
                threshold=judged[1],
                unit="1",
                message=(
                    f"the input of {site.label} has mean {mean:.3g} and standard deviation {std:.3g} "
                    f"(medians of steps {first} to {last}), where layers are initialised for 0 and 1"
                ),
                evidence=(
                    Evidence("mean", mean),
                    Evidence("standard deviation", std),
                    Evidence("smallest", low),
                    Evidence("largest", high),
                ),
                severity=Severity.INFO if normalised else None,
                fixes=self.fixes if site.path else (),  # the wrapper needs a module to stand before
            )


def _scale(trace: Trace, site: Site) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], float, float]:
    """Return the steps with finite data, and the medians over them of mean and standard deviation."""
    steps, finite = trace.series(site, Role.INPUT, "finite")
    columns = [trace.series(site, Role.INPUT, name)[1][finite > 0] for name in ("mean", "std", "squares", "zeros")]
    steps, finite = steps[finite > 0], finite[finite > 0]
    if not len(steps):
        return steps, math.nan, math.nan
    mean, std, squares, zeros = columns
    others = np.sqrt(squares / np.maximum(finite - zeros, 1))
    return steps, float(np.median(mean)), float(np.median(np.where(zeros > SPARSE * finite, others, std)))


def _extremes(trace: Trace, site: Site) -> tuple[float, float]:
    low, high = (trace.series(site, Role.INPUT, name)[1] for name in ("minimum", "maximum"))
    return float(low.min()), float(high.max())
