"""N002. After Wu and He 2018, figure 1, https://arxiv.org/abs/1803.08494, and Ioffe 2017."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MIN_VALUES = 8  # values a unit; the mean of 7 is off by 0.38 std, their std by 27 %, anew at each step


class TinyNormBatch(Rule):
    """Batch normalisation takes its statistics from a handful of values.

    ## What it does
    Counts over how many values batch normalisation averages in training: the size of the batch, times that of the map
    for convolutions. It fires when the median over the sampled steps is below 8 for a unit.

    ## Why is this bad
    Mean and variance of so few values are mostly noise. The outputs of each sample depend on the few others that came
    with it, which hinders training, and the running statistics that are used in evaluation describe none of the
    batches that the network was trained on. Accumulating gradients does not help: each small batch is normalised by
    itself.

    ## Evidence
    The values a unit, and how far batch means lie from the running mean.

    ## Stays silent on
    Small batches of large maps or long sequences; batch normalisation in eval mode, which uses its running
    statistics; other norms, which look at one sample at a time; a last batch that is smaller than the others.

    ## Example
        nn.BatchNorm1d(64)  # trained with batches of 4

    ## Fix
    Use GroupNorm or LayerNorm, larger batches, or, with several processes, SyncBatchNorm.

    ## References
    - Group Normalization, https://arxiv.org/abs/1803.08494
    - Batch Renormalization, https://arxiv.org/abs/1702.03275
    """

    code = "N002"
    name = "tiny-norm-batch"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.NORMS)
    explains = ("N003", "L013", "L014")
    min_values = Threshold(MIN_VALUES, "values a unit")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs batch normalisation."""
        if missing := super().lacking(trace):
            return missing
        seen = any(trace.scalars(site, "values_per_unit") for site in trace.of_kind(Kind.NORM))
        return None if seen else "batch normalisation"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each batch normalisation by the median of its steps in train mode."""
        for site in trace.of_kind(Kind.NORM):
            values = [(s, n) for s, n in trace.scalars(site, "values_per_unit") if trace.scalar(site, "training", s)]
            if values and seen_enough(trace, len(values)):
                median = float(np.median([n for _, n in values]))
                if median < self.min_values:
                    yield self._report(trace, site, (values[0][0], values[-1][0]), median)

    def _report(self, trace: Trace, site: Site, steps: tuple[int, int], values: float) -> Finding:
        shifts = [shift for _, shift in trace.scalars(site, "mean_shift")]
        evidence = (Evidence("batch mean from running mean", float(np.median(shifts)), "std"),) if shifts else ()
        return self.finding(
            site,
            steps=steps,
            measured=values,
            threshold=self.min_values,
            unit="values a unit",
            message=(
                f"{site.label} takes mean and variance of each unit from {values:.0f} values; "
                f"below {self.min_values:.0f} they are mostly noise"
            ),
            evidence=evidence,
        )
