"""R005. After https://docs.pytorch.org/docs/stable/data.html (DistributedSampler)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules import together
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Trace

MIN_STEPS = 4  # sampled steps; batches of small numbers may be the same once by chance


class SameDataOnEveryRank(Rule):
    """All processes are given the very same batches.

    ## What it does
    Compares checksums of the data and targets of a step between the processes. It fires when they were the same in
    all of them at every sampled step where they are known, 4 at least.

    ## Why is this bad
    All processes compute the same gradient, and their average is what a single one would have made alone: the others
    are paid for and do nothing.

    ## Evidence
    The number of steps compared, and of processes.

    ## Stays silent on
    Batches that differ in a single bit; layers that several processes compute together (tensor parallel), which must
    be given the same; processes that train networks of their own.

    ## Example
        torch.manual_seed(0)  # in every process
        loader = DataLoader(dataset, batch_size=32, shuffle=True)

    ## Fix
    Give each process its share: `DataLoader(dataset, sampler=DistributedSampler(dataset))`, and `sampler.set_epoch`
    each epoch; by hand, `data[rank::world_size]`, or random numbers for batches that are seeded with the rank.

    ## References
    - DistributedSampler, https://docs.pytorch.org/docs/stable/data.html
    - Distributed Data Parallel, https://docs.pytorch.org/docs/stable/notes/ddp.html
    """

    code = "R005"
    name = "same-data-on-every-rank"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS,)
    min_steps = Threshold(MIN_STEPS, "sampled steps")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs data that a layer took, in several processes, at enough steps."""
        if missing := super().lacking(trace) or together.lacking(trace):
            return missing
        _, data = together.of_ranks(trace, "rank_data")
        known = int((data >= 0).all(1).sum())
        return (
            None if known >= self.min_steps else f"data from outside the network, at {self.min_steps:g} sampled steps"
        )

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Yield one finding when all processes had the same data throughout."""
        place = together.place_of(trace)
        every, data = together.of_ranks(trace, "rank_data")
        known = np.asarray((data >= 0).all(1))
        steps = [step for step, there in zip(every, known, strict=True) if there]
        if place is None or any(value for _, value in trace.scalars(place, "tensor_parallel")):
            return
        if not together.trained_together(trace) or (data[known] != data[known][:, :1]).any():
            return
        size = data.shape[1]
        yield self.finding(
            next(iter(trace.of_kind(Kind.LOSS)), place),
            steps=(steps[0], steps[-1]),
            measured=float(len(steps)),
            threshold=self.min_steps,
            unit="sampled steps",
            message=f"all {size} processes were given the same data and targets at all {len(steps)} steps compared",
            evidence=(Evidence("processes", float(size), "processes"),),
        )
