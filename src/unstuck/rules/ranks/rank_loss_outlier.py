"""R003. After Zhao et al. 2018, https://arxiv.org/abs/1806.00582 (what data that differ between processes do)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules import together
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Signal, Trace

MIN_MERGES = 8  # sampled steps; of the half that is judged, four
MAX_RATIO = 1.5  # times the others' loss; in `zoo/` shards drawn at random reach 1.21, different ones 2.2 and 3.7
MIN_SIGMAS = 4.0  # standard errors of the mean difference; by chance once in 30,000


class RankLossOutlier(Rule):
    """The loss of one process stays far above that of the others.

    ## What it does
    Compares each process's mean loss with the median of the others', over the later half of the sampled steps. It
    fires when one is more than 1.5 times as high on average, and by more than 4 standard errors of the difference.

    ## Why is this bad
    Each process trains the same network. When one of them cannot bring its loss down, what it is given is different:
    wrong labels, another preprocessing, a shard that was not shuffled. Its gradients pull the network away from what
    the others learn.

    ## Evidence
    The losses of that process and of the others, and by how many standard errors they differ.

    ## Stays silent on
    Differences between batches that even out; losses that are not positive; fewer than 8 sampled steps.

    ## Example
        if rank == 1:
            labels = labels + 1  # another file, with classes counted from 1

    ## Fix
    Compare what the processes are given: a few samples with their labels, and their statistics. Shuffle before the
    data is split (`DistributedSampler(shuffle=True)`, with `set_epoch` each epoch).

    ## References
    - torch.utils.data.distributed, https://docs.pytorch.org/docs/stable/data.html
    - Federated learning with non-IID data, https://arxiv.org/abs/1806.00582
    """

    code = "R003"
    name = "rank-loss-outlier"
    stage = Stage.DATA
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.LOSS_VALUES)
    explains = ("L013", "L014")
    min_merges = Threshold(MIN_MERGES, "sampled steps")
    max_ratio = Threshold(MAX_RATIO, "times the others' loss")
    min_sigmas = Threshold(MIN_SIGMAS, "standard errors")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs losses of several processes, at enough steps."""
        return super().lacking(trace) or together.lacking(trace, self.min_merges)

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge the process that is furthest above the others."""
        steps, losses = together.of_ranks(trace, "rank_loss")
        half = len(steps) // 2
        steps, losses = steps[half:], losses[half:]
        if not (np.isfinite(losses).all() and (losses > 0).all()):
            return
        others = np.stack([np.median(np.delete(losses, rank, 1), 1) for rank in range(losses.shape[1])], 1)
        ratios = losses.mean(0) / others.mean(0)
        rank = int(ratios.argmax())
        apart = losses[:, rank] - others[:, rank]
        error = apart.std(ddof=1) / np.sqrt(len(apart))
        sigmas = apart.mean() / error if error > 0 else np.inf
        if ratios[rank] <= self.max_ratio or sigmas <= self.min_sigmas:
            return
        own, theirs = float(losses[:, rank].mean()), float(others[:, rank].mean())
        yield self.finding(
            together.place_of(trace),
            steps=(steps[0], steps[-1]),
            measured=float(ratios[rank]),
            threshold=self.max_ratio,
            unit="times the others' loss",
            message=f"the loss of rank {rank} is {own:.4g}, {ratios[rank]:.2g} × that of the others ({theirs:.4g})",
            evidence=(
                Evidence("its loss", own, "loss"),
                Evidence("median of the others' losses", theirs, "loss"),
                *((Evidence("difference", float(sigmas), "standard errors"),) if np.isfinite(sigmas) else ()),
            ),
        )
