"""D008. After https://docs.pytorch.org/docs/stable/data.html (each `iter` of a loader begins anew)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MIN_STEPS = 8  # sampled steps; a shuffled loader repeats no batch, and a short test run ends before
MAX_DIFFERENT = 1  # different batches; when there is but one, every step saw it


class RepeatedBatch(Rule):
    """Every step trains on the very same batch.

    ## What it does
    Compares a checksum of the data that layers are given from outside the network, and of the loss's targets, between
    the sampled steps. It fires when all are the same at 8 steps or more. The finding is a warning when each step drew
    the batch anew from something larger: from a `DataLoader` of several batches, or as rows of a tensor that has four
    times as many. It is for information only otherwise, since training on all data at once looks the same.

    ## Why is this bad
    The network learns these few examples by heart. The loss falls nicely and says nothing about any other data.

    ## Evidence
    The number of sampled steps, of different batches among them, and of targets in a batch.

    ## Stays silent on
    Data or targets that differ in a single bit, as with noise or augmentation; constant inputs (positions, initial
    states) beside data that changes; runs of fewer than 8 sampled steps.

    ## Example
        for step in range(1000):
            x, y = next(iter(loader))  # a new iterator each time: always the first batch

    ## Fix
    Make the iterator once, outside the loop (`for x, y in loader`), and the random generator that draws the batch
    too. Where overfitting one batch is the purpose, take it before the loop.

    ## References
    - torch.utils.data, https://docs.pytorch.org/docs/stable/data.html
    - A Recipe for Training Neural Networks (overfit one batch), https://karpathy.github.io/2019/04/25/recipe/
    """

    code = "D008"
    name = "repeated-batch"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    min_steps = Threshold(MIN_STEPS, "sampled steps")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs data that a layer took, at enough steps."""
        if missing := super().lacking(trace):
            return missing
        enough = any(len(trace.scalars(site, "data_bits")) >= self.min_steps for site in trace.sites)
        return (
            None if enough else f"data that a layer takes from outside the network, at {self.min_steps:g} sampled steps"
        )

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding, for the first loss all of whose data stays the same."""
        graph = Graph(trace)
        for loss in trace.of_kind(Kind.LOSS):
            inputs = [trace.sites[i] for i in sorted(graph.upstream(loss.index))]
            inputs = [site for site in inputs if trace.scalars(site, "data_bits")]
            steps = _steps(trace, loss, inputs)
            if len(steps) < self.min_steps or not all(_constant(trace, site, "data_bits") for site in inputs):
                continue
            if not _constant(trace, loss, "target_bits"):
                continue
            drawn = any(_drawn_anew(trace, site) for site in inputs)
            number = next((value for _, value in trace.scalars(loss, "target_elements")), None)
            message = f"the data and targets of all {len(steps)} sampled steps are the same to the bit"
            if drawn:
                message += ", though each step drew its batch anew from more data"
            yield self.finding(
                loss,
                steps=(steps[0], steps[-1]),
                measured=float(MAX_DIFFERENT),
                threshold=float(MAX_DIFFERENT),
                unit="different batches",
                message=message,
                evidence=(
                    Evidence("sampled steps", float(len(steps)), "steps"),
                    *(() if number is None else (Evidence("targets in a batch", number, "targets"),)),
                ),
                severity=Severity.WARNING if drawn else Severity.INFO,
            )
            return


def _steps(trace: Trace, loss: Site, inputs: list[Site]) -> list[int]:
    """Return the sampled steps at which the loss was given predictions made of data."""
    of_loss = {call.step for call in trace.loss_calls if call.site == loss.index}
    of_data = {step for site in inputs for step, _ in trace.scalars(site, "data_bits")}
    return sorted(of_loss & of_data)


def _constant(trace: Trace, site: Site, name: str) -> bool:
    return len({value for _, value in trace.scalars(site, name)}) <= MAX_DIFFERENT


def _drawn_anew(trace: Trace, site: Site) -> bool:
    """Tell whether a site's data was drawn from more at most steps, once each: several may make up the whole data."""
    drawn, calls = ([value for _, value in trace.scalars(site, f"data_{name}")] for name in ("drawn", "calls"))
    return bool(drawn) and float(np.median(drawn)) == 1.0 and float(np.median(calls)) == 1.0
