"""R002. After https://docs.pytorch.org/docs/stable/notes/ddp.html (gradients are averaged over all processes)."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules import together
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Signal, Site, Trace

MAX_BAD = 0  # processes; one NaN makes every averaged gradient NaN


class OneRankNonfinite(Rule):
    """The loss became NaN or infinite in some of the processes before it did in the others.

    ## What it does
    Notes, in each process, the first step whose loss was not finite. It fires when that is an earlier step in some
    processes than in others, or never in those, and names the ones that were first.

    ## Why is this bad
    Averaging gradients spreads the NaN: one step later all parameters of all processes are spoilt, and nothing tells
    any more which one began. What is peculiar to one process is mostly its share of the data.

    ## Evidence
    How many processes were first, of how many, and where in the network, when that step was sampled.

    ## Stays silent on
    A loss that breaks in all processes at the same step, as with a learning rate that is too high.

    ## Example
        shard = data[rank::world_size]  # one of the shards has a row of NaN

    ## Fix
    Look at what that process was given at that step: its shard, its own preprocessing, its device. Check data with
    `torch.isfinite(x).all()` as it is loaded, in every process.

    ## References
    - Distributed Data Parallel, https://docs.pytorch.org/docs/stable/notes/ddp.html
    - torch.isfinite, https://docs.pytorch.org/docs/stable/generated/torch.isfinite.html
    """

    code = "R002"
    name = "one-rank-nonfinite"
    stage = Stage.DATA
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_VALUES)
    explains = ("D002", "A006", "G005", "L011", "L012", "L013", "R001", "R003")
    max_bad = Threshold(MAX_BAD, "processes")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs several processes."""
        return super().lacking(trace) or together.lacking(trace)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge by what was known at the last merge."""
        _, since = together.of_ranks(trace, "rank_nonfinite_since")
        bad = [(step, rank) for rank, step in enumerate(since[-1].tolist()) if step >= 0]
        if not bad:
            return
        first = int(min(bad)[0])
        ranks = [rank for step, rank in bad if step == first]
        if not self.max_bad < len(ranks) < len(since[-1]):
            return
        spread = sorted(step for step, _ in bad if step > first)
        then = f"; the others followed from step {int(spread[0]):,} on" if spread else ""
        yield self.finding(
            self._place(trace, first, ranks),
            steps=(first, first),
            measured=float(len(ranks)),
            threshold=self.max_bad,
            unit="processes",
            message=(
                f"the loss of {together.named(ranks)} is not finite at step {first:,}, "
                f"that of the other {len(since[-1]) - len(ranks)} still is{then}"
            ),
            evidence=(Evidence("processes in all", float(len(since[-1])), "processes"),),
        )

    @staticmethod
    def _place(trace: Trace, step: int, ranks: list[int]) -> Site | None:
        """Return the first site where these processes, and not all, had values that are not finite at that step."""
        bad = [site for site in trace.sites if trace.scalar(site, "first_bad_rank", step) in ranks]
        return min(bad, key=lambda site: site.order, default=together.place_of(trace))
