"""S001. After Zhai et al. 2023, https://arxiv.org/abs/2303.06296 (entropy collapse)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MAX_COLLAPSED = 0.5  # of the (batch, head) matrices, with entropy under 10 % of log(keys); working programs: 0 (tuned)
LAST_STEP = 4  # step; later on, attention that has learned to be sharp is none the worse for it
PERCENT = 100.0  # percent in a whole


class AttentionCollapse(Rule):
    """Each query attends to one key alone before anything is learned.

    ## What it does
    Takes the entropy of attention weights in steps 0 to 4, row by row, as a share of the logarithm of the number of
    keys that the row may see, and its mean over each head of each example. It fires when that is under 10 % in more
    than half of them (median over the steps). Written-out attention counts (a softmax over the last dimension, times
    values) and `scaled_dot_product_attention`, of which some rows are computed again.

    ## Why is this bad
    A softmax that has put all its weight on one key passes no gradient to its scores: which key was picked by the
    random start stays picked, and queries and keys learn next to nothing. Scores of unit variance leave most of the
    entropy. A product of two vectors of d such numbers has variance d, which is why it is divided by √d.

    ## Evidence
    The share of collapsed heads, their mean entropy, the largest distance of a score from its row's mean and the number
    of keys.

    ## Stays silent on
    Networks with loaded weights; steps after the fourth; rows that see fewer than four keys; softmaxes over two
    dimensions or fewer, or whose result is multiplied elementwise (gates, routers). Large scores alone are no
    finding: a bias by distance (ALiBi) has them without picking a single key.

    ## Example
        weights = (q @ k.transpose(-2, -1)).softmax(-1)  # 64 features, and no division by 8

    ## Fix
    Divide the scores by √d, or normalise queries and keys before they are multiplied.

    ## References
    - Stabilizing Transformer Training by Preventing Attention Entropy Collapse, https://arxiv.org/abs/2303.06296
    - Attention Is All You Need, section 3.2.1, https://arxiv.org/abs/1706.03762
    """

    code = "S001"
    name = "attention-collapse"
    stage = Stage.INIT
    needs = (Signal.STEPS, Signal.START)
    explains = ("A007", "G001", "G004", "L013", "U002", "U003")
    max_collapsed = Threshold(MAX_COLLAPSED, "share of heads")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs attention that starts from its initialisation."""
        if missing := super().lacking(trace):
            return missing
        if trace.facts.weights_loaded:
            return "a network that starts from its initialisation"
        return None if any(True for _ in _attention(trace)) else "attention over three dimensions or more"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each attention by the median of the first steps."""
        for site, shares in _attention(trace):
            collapsed = float(np.median([share for _, share in shares]))
            if collapsed > self.max_collapsed and seen_enough(trace, len(shares)):
                yield self._report(trace, site, collapsed, (shares[0][0], shares[-1][0]))

    def _report(self, trace: Trace, site: Site, collapsed: float, steps: tuple[int, int]) -> Finding:
        entropy, largest, keys = (_median(trace, site, name) for name in ("entropy", "max_logit", "keys"))
        return self.finding(
            site,
            steps=steps,
            measured=collapsed,
            threshold=self.max_collapsed,
            unit="share of heads",
            message=(
                f"in {PERCENT * collapsed:.0f} % of its heads {site.label} puts nearly all weight on one of {keys:.0f} "
                f"keys at the start: the mean entropy is {PERCENT * entropy:.1f} % of log({keys:.0f}), "
                f"and scores are up to {largest:.3g} from their row's mean"
            ),
            evidence=(
                Evidence("mean entropy", entropy, "share of log(keys)"),
                Evidence("largest score", largest, "from its row's mean"),
                Evidence("keys", keys, "keys"),
            ),
        )


def _attention(trace: Trace) -> Iterator[tuple[Site, list[tuple[int, float]]]]:
    """Yield each attention with the share of collapsed heads at each of the first steps."""
    for site in trace.of_kind(Kind.SOFTMAX, Kind.ATTENTION):
        if shares := [(step, share) for step, share in trace.scalars(site, "entropy_share") if step <= LAST_STEP]:
            yield site, shares


def _median(trace: Trace, site: Site, name: str) -> float:
    values = [value for step, value in trace.scalars(site, name) if step <= LAST_STEP]
    return float(np.median(values))
