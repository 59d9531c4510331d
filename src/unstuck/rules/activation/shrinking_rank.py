"""A007. After Jing et al. 2022, https://arxiv.org/abs/2110.09348, and Garrido et al. 2023, RankMe."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Site, Trace

MIN_SHARE = 5.0  # % of the most it could be
MIN_FALL = 2.0  # times, from the start; a rank that was low from the start is so by design
MIN_SEEN = 4  # ranks of a layer: two at the start, two at the end
CLASSIFICATIONS = frozenset({"cross_entropy", "softmax", "log_softmax", "binary_cross_entropy_with_logits"})
REGRESSIONS = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})


class ShrinkingRank(Rule):
    """The codes that a network learns shrink, in training, to a few directions.

    ## What it does
    Takes the effective rank of the outputs of each last weight layer at steps 0, 5, 10, 20, 40 and so on: the
    exponential of the entropy of the eigenvalues, as shares of their sum, of the covariance of up to 128 rows. It fires
    when the median of the last two is below 5 % of the largest possible rank, the lesser of units and rows, and below
    half of the first two's.

    ## Why is this bad
    All examples lie along a few lines: what tells them apart otherwise is lost to every later layer. A loss that only
    pulls examples together is best pleased by this, and goes on falling.

    ## Evidence
    The effective rank at the start and at the end, the largest possible one, the number of units.

    ## Stays silent on
    Layers before another layer: what a classifier or a language model keeps of its input is up to the task (a healthy
    BERT goes down to 2 of 64). Logits, and outputs that a regression compares with targets. Layers of fewer than 32
    units, batches of fewer than 32 rows; ranks that are low from the start; runs of fewer than 20 steps.

    ## Example
        loss = (z1 - z2).square().mean()  # nothing keeps the examples apart

    ## Fix
    Add what keeps examples or units apart: negative pairs, a variance and covariance term, a stopped gradient on one
    side; lower weight decay or the learning rate where the loss has such a term.

    ## References
    - The effective rank, https://ieeexplore.ieee.org/document/7098875
    - RankMe, https://arxiv.org/abs/2210.02885
    - Understanding Dimensional Collapse in Contrastive Self-supervised Learning, https://arxiv.org/abs/2110.09348
    """

    code = "A007"
    name = "shrinking-rank"
    stage = Stage.ACTIVATION
    severity = Severity.WARNING
    needs = (Signal.STEPS, Signal.WEIGHT_LAYERS)
    explains = ("L013",)
    min_share = Threshold(MIN_SHARE, "% of the largest possible rank")
    min_fall = Threshold(MIN_FALL, "times, from the start")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs ranks."""
        if missing := super().lacking(trace):
            return missing
        if any(len(trace.scalars(site, "rank")) >= MIN_SEEN for site in trace.of_kind(Kind.WEIGHT_LAYER)):
            return None
        return "20 steps with a last layer of 32 units, fed 32 rows or more"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each weight layer by its first and last ranks."""
        graph = Graph(trace)
        for layer in trace.of_kind(Kind.WEIGHT_LAYER):
            ranks = trace.scalars(layer, "rank")
            if len(ranks) < MIN_SEEN or not graph.is_output_layer(layer) or _has_targets(trace, graph, layer):
                continue
            limit = trace.scalar(layer, "rank_limit", ranks[-1][0]) or 0.0
            first, last = max(rank for _, rank in ranks[:2]), float(np.median([rank for _, rank in ranks[-2:]]))
            if last < self.min_share / 100.0 * limit and last < first / self.min_fall:
                yield self._report(layer, (ranks[0][0], ranks[-1][0]), first, last, limit)

    def _report(self, layer: Site, steps: tuple[int, int], first: float, last: float, limit: float) -> Finding:
        return self.finding(
            layer,
            steps=steps,
            measured=100.0 * last / limit,
            threshold=self.min_share,
            unit="%",
            message=(
                f"the outputs of {layer.label} spread over {last:.1f} directions at step {steps[1]} (effective rank), "
                f"{100 * last / limit:.0f} % of the {limit:.0f} possible; at the start over {first:.1f}"
            ),
            evidence=(
                Evidence("effective rank at the start", first),
                Evidence("effective rank at the end", last),
                Evidence("largest possible rank", limit),
            ),
        )


def _has_targets(trace: Trace, graph: Graph, layer: Site) -> bool:
    """Tell whether a layer's outputs are logits, or are compared with targets by all losses."""
    logits = any(site.op in CLASSIFICATIONS for site in trace.consumers(layer))
    losses = [trace.sites[i].op for i in graph.downstream(layer.index) if trace.sites[i].kind is Kind.LOSS]
    return logits or (bool(losses) and REGRESSIONS.issuperset(losses))
