"""I006. After Zhang et al. 2019 (Fixup), https://arxiv.org/abs/1901.09321, and GPT-2's scaling by 1/√(2·blocks)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.residual import Block, streams
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Signal, Trace

MAX_GROWTH = 4.0  # times, from the first block to the last; sixteen branches as large as the stream and alike in size
MIN_BLOCKS = 4  # additions to one stream; fewer cannot compound


class UnscaledResidual(Rule):
    """The residual stream grows with every block at the start.

    ## What it does
    Follows each residual stream at the first step: the additions in which one operand is computed from the other,
    with nothing but additions and scaling between one and the next. It fires when, of four blocks or more, the stream
    is more than 4 times as large (in standard deviation) after the last as after the first. Where every branch starts
    with a norm and another one follows the stream, it is information: there the stream's scale does little harm.

    ## Why is this bad
    Without a norm a branch is as large as the stream it starts from, so each block multiplies the scale by √2 or more
    and the growth is exponential in depth. With a norm in each branch only the sum of the branches grows, and the later
    blocks count for little beside it.

    ## Evidence
    The growth, the number of blocks, the standard deviations after the first and after the last.

    ## Stays silent on
    Streams that a norm or an activation interrupts between blocks (post-norm, ResNet v1); branches that start at zero
    or are scaled by 1/√(2·blocks); networks of fewer than four blocks; a cell that is applied again and again; runs
    that loaded weights.

    ## Example
        for up, down in blocks:  # twelve, all drawn by He's rule
            h = h + torch.relu(h @ up) @ down

    ## Fix
    Scale the last layer of each branch by 1/√(2·blocks) or start it at zero, or put a norm before each branch and
    another one after the last block. `rescale-residual-branches` does the first.

    ## References
    - Fixup Initialization, https://arxiv.org/abs/1901.09321
    - Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks,
      https://arxiv.org/abs/2002.10444
    """

    code = "I006"
    name = "unscaled-residual"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.WEIGHT_LAYERS)
    explains = ("L001", "L011", "L012", "L013", "L014", "N006", "A001", "A002", "A006", "G002", "U001", "U003")
    fixes = ("rescale-residual-branches",)
    max_growth = Threshold(MAX_GROWTH, "times, from the first block to the last")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs a residual stream."""
        if missing := super().lacking(trace):
            return missing
        if any(len(blocks) >= MIN_BLOCKS for blocks in streams(trace)):
            return None
        return f"{MIN_BLOCKS} additions to one residual stream"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each stream at step 0."""
        if trace.facts.weights_loaded:
            return
        graph = Graph(trace)
        for blocks in streams(trace):
            first, last = blocks[0], blocks[-1]
            if len(blocks) < MIN_BLOCKS or not (math.isfinite(last.std) and first.std > 0):
                continue
            growth = last.std / first.std
            if growth > self.max_growth:
                yield self._report(blocks, growth, normed=_normed(trace, graph, blocks))

    def _report(self, blocks: list[Block], growth: float, *, normed: bool) -> Finding:
        first, last = blocks[0], blocks[-1]
        return self.finding(
            first.site,
            steps=(0, 0),
            measured=growth,
            threshold=self.max_growth,
            unit="1",
            message=(
                f"the residual stream's std grows from {first.std:.2g} after the first of {len(blocks)} blocks to "
                f"{last.std:.2g} after the last, {growth:.1f}-fold; {self.max_growth:.0f}-fold is the limit"
            ),
            evidence=(
                Evidence("blocks", float(len(blocks)), "blocks"),
                Evidence("std after the first", first.std),
                Evidence("std after the last", last.std),
            ),
            severity=Severity.INFO if normed else Severity.WARNING,
            fixes=() if normed else None,
        )


def _normed(trace: Trace, graph: Graph, blocks: list[Block]) -> bool:
    """Tell whether each branch goes through a norm, and what follows the last block does too."""
    norms = {site.index for site in trace.of_kind(Kind.NORM)}
    for block in blocks:
        branch = frozenset().union(*(graph.upstream(index) for index in block.branch))
        below = frozenset().union(*(graph.downstream(index) for index in block.stream))
        if not norms & (branch | block.branch) & below:
            return False
    ends = blocks[-1].after
    return any(ends <= {p.index for p in trace.producers(trace.sites[norm], direct=False)} for norm in norms)
