"""N007. After Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450, equation 3, for one hidden unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Finding, Severity
from unstuck.rules.rule import Rule, Stage
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MIN_SIZE = 2  # values that are normalised together; one value less its mean is zero


class SingletonNorm(Rule):
    """A normalisation layer normalises single values, so that its output does not depend on its input.

    ## What it does
    Takes over how many values each layer, group, instance or RMS normalisation averages, and fires when that is one.

    ## Why is this bad
    One value less its own mean is zero: the output is the norm's bias whatever comes in, and no gradient passes.
    Everything before the layer is cut off from the loss. An RMS norm keeps nothing but the sign.

    ## Evidence
    The number of values that are normalised together. Nothing is left of a single value, so there is no threshold to
    set.

    ## Stays silent on
    Norms over two values or more; batch normalisation, which refuses a single value in training; instance
    normalisation by running statistics.

    ## Example
        nn.GroupNorm(num_groups=16, num_channels=16)  # on maps of size 1 x 1

    ## Fix
    Normalise over the features: fewer groups than channels, or the dimension of the features as `normalized_shape`.

    ## References
    - Layer Normalization, https://arxiv.org/abs/1607.06450
    - torch.nn.GroupNorm, https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html
    """

    code = "N007"
    name = "singleton-norm"
    stage = Stage.NORMALISATION
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.NORMS)
    explains = ("A003", "G001", "G003", "G004", "L013", "U002", "U003")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a norm other than batch normalisation."""
        if missing := super().lacking(trace):
            return missing
        seen = any(trace.scalars(site, "group_size") for site in trace.of_kind(Kind.NORM))
        return None if seen else "a layer, group, instance or RMS normalisation"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each norm by the median of the sampled steps."""
        for site in trace.of_kind(Kind.NORM):
            sizes = trace.scalars(site, "group_size")
            if sizes and seen_enough(trace, len(sizes)):
                median = float(np.median([size for _, size in sizes]))
                if median < MIN_SIZE:
                    yield self._report(site, (sizes[0][0], sizes[-1][0]), median)

    def _report(self, site: Site, steps: tuple[int, int], size: float) -> Finding:
        leaves = "leaves nothing but its sign" if site.op == "rms_norm" else "makes it zero whatever it is"
        return self.finding(
            site,
            steps=steps,
            measured=size,
            threshold=float(MIN_SIZE),
            unit="values",
            message=f"{site.label} normalises each value by itself, which {leaves}",
        )
