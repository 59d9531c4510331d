"""R001. After https://docs.pytorch.org/docs/stable/notes/ddp.html (what keeps replicas equal)."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules import together
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MAX_DIFFERENT = 0  # parameters; equal gradients keep equal copies equal to the bit
MIN_APART = 3  # steps of unequal gradients that copies have been apart; averaging now and then brings them together


class RanksOutOfSync(Rule):
    """The processes train one network, but their copies of it are not the same.

    ## What it does
    Compares fingerprints of all bits of each parameter that every process holds whole, after the update of sampled
    steps. It fires when some differ although all processes had the same gradients, which only keep copies equal that
    are equal. With other gradients it fires, as a warning, when the copies were equal at first, have been apart at
    3 such steps in a row, and were never equal again.

    ## Why is this bad
    Gradients are averaged over different networks, and are right for none of them. Each process goes its own way; the
    checkpoint of one, and its evaluation, tell nothing of the others.

    ## Evidence
    The number of parameters that differ, of how many, and the processes whose parameters are not those of process 0.

    ## Stays silent on
    Shards (FSDP, tensor parallel layers), which are meant to differ; processes that train networks of their own from
    the start; copies that are averaged now and then (local SGD) once they were seen equal again; buffers.

    ## Example
        torch.manual_seed(rank)
        net = Net()  # another initialisation in each process, and nothing that makes them equal
        ...
        for p in net.parameters():
            dist.all_reduce(p.grad)

    ## Fix
    Wrap the network in DistributedDataParallel, which copies the parameters of process 0 and averages gradients, and
    call the wrapper, not `.module`. By hand: `dist.broadcast(p.data, 0)` for each parameter before training, the same
    learning rate everywhere, and every gradient averaged.

    ## References
    - Distributed Data Parallel, https://docs.pytorch.org/docs/stable/notes/ddp.html
    - PyTorch Distributed, section 3, https://arxiv.org/abs/2006.15704
    """

    code = "R001"
    name = "ranks-out-of-sync"
    stage = Stage.INIT
    severity = Severity.ERROR
    needs = (Signal.STEPS,)
    explains = ("R003", "L003", "L012", "L013", "L014")
    max_different = Threshold(MAX_DIFFERENT, "parameters")
    min_apart = Threshold(MIN_APART, "sampled steps")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs parameters that several processes hold."""
        if missing := super().lacking(trace) or together.lacking(trace):
            return missing
        known = any(trace.scalars(site, "ranks_differ") for site in trace.of_kind(Kind.PARAMETER))
        return None if known else "parameters that each process holds whole"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the steps at which fingerprints were taken, the last first."""
        place = together.place_of(trace)
        different: dict[int, list[Site]] = {}
        for site in trace.of_kind(Kind.PARAMETER):
            for step, differs in trace.scalars(site, "ranks_differ"):
                different.setdefault(step, []).extend([site] if differs else [])
        apart = [step for step, sites in sorted(different.items()) if len(sites) > self.max_different]
        if place is None or not apart:
            return
        averaged = [step for step in apart if trace.scalar(place, "gradients_equal", step)]
        first = min(different)
        parted = (
            apart[0] > first and len(apart) >= self.min_apart and apart == sorted(s for s in different if s > first)
        )
        if averaged or parted:
            steps = averaged or apart
            yield self._report(trace, steps, different[steps[-1]], averaged=bool(averaged))

    def _report(self, trace: Trace, steps: list[int], sites: list[Site], *, averaged: bool) -> Finding:
        merged, prints = together.of_ranks(trace, "rank_parameters")
        own = prints[merged.index(steps[-1])]
        others = [rank for rank, print_ in enumerate(own.tolist()) if print_ != own[0]]
        known = sum(trace.scalar(s, "ranks_differ", steps[-1]) is not None for s in trace.of_kind(Kind.PARAMETER))
        why = "though their gradients are the same" if averaged else "and their gradients differ too"
        who = f"{together.named(others)} and rank 0 hold" if others else "the ranks hold"
        return self.finding(
            sites[0],
            steps=(steps[0], steps[-1]),
            measured=float(len(sites)),
            threshold=self.max_different,
            unit="parameters",
            message=f"{who} different values of {len(sites)} of {known} parameters at step {steps[-1]:,}, {why}",
            evidence=(
                Evidence("parameters in all", float(known), "parameters"),
                Evidence("processes that differ from rank 0", float(len(others)), "processes"),
            ),
            severity=Severity.ERROR if averaged else Severity.WARNING,
        )
