"""R004. After Wu and He 2018, figure 1, https://arxiv.org/abs/1803.08494 (batch statistics of each worker)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules import together
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Trace

MIN_SAMPLES = 8  # samples a process; error of ResNet-50 with 32, 16, 8, 4, 2: 23.6, 23.7, 24.8, 27.3, 34.7 % (figure 1)


class UnsynchronisedBatchnorm(Rule):
    """Batch normalisation sees only the few samples of its own process.

    ## What it does
    Counts the samples that batch normalisation is given in each process. It fires when several processes train the
    network and the median over the sampled steps is below 8 in a process, however many there are in all.

    ## Why is this bad
    The batch that counts is that of one process: mean and variance of a few samples, which are alike where each is a
    large map, are mostly noise, and the running statistics of process 0, which are saved, are made of its samples
    alone. A batch that is large only in sum does not help.

    ## Evidence
    The samples of a batch in one process and in all together.

    ## Stays silent on
    SyncBatchNorm, which exchanges its statistics; batch normalisation in eval mode; other norms; a single process.

    ## Example
        net = DistributedDataParallel(resnet50())  # 64 processes with 4 images each

    ## Fix
    `net = nn.SyncBatchNorm.convert_sync_batchnorm(net)` before DDP, on accelerators; or GroupNorm or LayerNorm.

    ## References
    - Group Normalization, https://arxiv.org/abs/1803.08494
    - SyncBatchNorm, https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
    """

    code = "R004"
    name = "unsynchronised-batchnorm"
    stage = Stage.NORMALISATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.NORMS)
    explains = ("N002", "N003", "L013", "L014")
    min_samples = Threshold(MIN_SAMPLES, "samples a process")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs batch normalisation, in several processes."""
        if missing := super().lacking(trace) or together.lacking(trace):
            return missing
        seen = any(trace.scalars(site, "samples") for site in trace.of_kind(Kind.NORM))
        return None if seen else "batch normalisation"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each batch normalisation by the median of its steps in train mode."""
        _, losses = together.of_ranks(trace, "rank_loss")
        if not together.trained_together(trace):
            return
        for site in trace.of_kind(Kind.NORM):
            seen = [(s, n) for s, n in trace.scalars(site, "samples") if trace.scalar(site, "training", s)]
            if not seen or not seen_enough(trace, len(seen)):
                continue
            samples, size = float(np.median([n for _, n in seen])), losses.shape[1]
            if samples < self.min_samples:
                yield self.finding(
                    site,
                    steps=(seen[0][0], seen[-1][0]),
                    measured=samples,
                    threshold=self.min_samples,
                    unit="samples a process",
                    message=(
                        f"{site.label} takes mean and variance from the {samples:.0f} samples of its own process, "
                        f"not from the {samples * size:.0f} of all {size}"
                    ),
                    evidence=(Evidence("samples of all processes", samples * size, "samples"),),
                )
