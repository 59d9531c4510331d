"""S002. After Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.3 (masking in the decoder)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.window import seen_enough
from unstuck.trace import Kind, Signal, Site, Trace

MIN_NEXT = 0.9  # share of the targets that are the next symbol; 1 where every one is, 1 / symbols by chance
MAX_OVERLAP = 0.1  # share of the places that are predicted and look ahead too; what must overlap, so none is due
PERCENT = 100.0  # percent in a whole


class FutureLeak(Rule):
    """A network that is to predict the next symbol can see it.

    ## What it does
    Compares the targets of each classification with the symbols its network was given. Where they are the same ones,
    shifted by one place (more than 90 % of the places whose symbol differs from the next), the network is a causal
    language model. It fires when attention that carries those symbols to that loss puts weight on places to the right
    of the query's, in more rows than the loss leaves out.

    ## Why is this bad
    The answer stands at the next place, and copying it is easy to learn. The loss falls to near zero in training and in
    every evaluation that is made in the same way, while nothing is learned that predicts a symbol which is not there.

    ## Evidence
    The share of rows with weight on later places, that weight, and the share of targets that are the next symbol.

    ## Stays silent on
    Encoders, masked language models, denoising and classification, whose targets are not the next symbol; attention
    over another sequence, or over another number of places; embeddings that are used twice in a pass (an encoder and a
    decoder that share one); a prefix that may look ahead and is not predicted; losses not made by `cross_entropy` or
    `nll_loss`.

    ## Example
        y = F.scaled_dot_product_attention(q, k, v)  # is_causal=True was meant
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())

    ## Fix
    Mask the scores of later places with -inf before the softmax, or pass `is_causal=True`.

    ## References
    - Attention Is All You Need, section 3.2.3, https://arxiv.org/abs/1706.03762
    - torch.nn.functional.scaled_dot_product_attention,
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """

    code = "S002"
    name = "future-leak"
    stage = Stage.LOSS
    severity = Severity.ERROR
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    min_next = Threshold(MIN_NEXT, "share of targets")
    max_overlap = Threshold(MAX_OVERLAP, "share of the places")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs targets that can be laid beside symbols, and attention among places."""
        if missing := super().lacking(trace):
            return missing
        if not any(trace.scalars(site, "target_is_next_input") for site in trace.of_kind(Kind.LOSS)):
            return "targets of a classification beside symbols given to an embedding"
        if not any(trace.scalars(site, "looks_ahead") for site in _attention(trace)):
            return "attention among the places of a sequence"
        return None

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each attention between symbols and a loss on the next ones."""
        graph = Graph(trace)
        for loss in trace.of_kind(Kind.LOSS):
            shares = trace.scalars(loss, "target_is_next_input")
            embedding = trace.scalar(loss, "next_embedding", shares[0][0]) if shares else None
            if embedding is None or not seen_enough(trace, len(shares)):
                continue
            following = float(np.median([share for _, share in shares]))
            if following <= self.min_next or trace.scalars(trace.sites[int(embedding)], "calls"):
                continue
            for site in _attention(trace):
                if _carries(trace, graph, site, int(embedding), loss):
                    yield from self._judge(trace, site, loss, following)

    def _judge(self, trace: Trace, site: Site, loss: Site, following: float) -> Iterator[Finding]:
        rows = trace.scalars(site, "looks_ahead")
        ahead, weight, counted = (
            float(np.median([value for _, value in trace.scalars(place, name)]))
            for place, name in ((site, "looks_ahead"), (site, "weight_ahead"), (loss, "targets_counted"))
        )
        overlap = ahead + counted - 1.0
        if overlap <= self.max_overlap or not seen_enough(trace, len(rows)):
            return
        yield self.finding(
            site,
            steps=(rows[0][0], rows[-1][0]),
            measured=overlap,
            threshold=self.max_overlap,
            unit="share of places",
            message=(
                f"{loss.op} wants the next symbol of the input ({PERCENT * following:.0f} % of the targets), and in "
                f"{PERCENT * ahead:.0f} % of its rows {site.label} looks at later places, where it stands "
                f"({PERCENT * weight:.0f} % of the weight)"
            ),
            evidence=(
                Evidence("rows that look ahead", ahead, "share of rows"),
                Evidence("weight on later places", weight, "share of the weight"),
                Evidence("targets that are the next symbol", following, "share of targets"),
            ),
        )


def _attention(trace: Trace) -> list[Site]:
    return trace.of_kind(Kind.SOFTMAX, Kind.ATTENTION)


def _carries(trace: Trace, graph: Graph, site: Site, embedding: int, loss: Site) -> bool:
    """Tell whether attention takes its values from the embedding, over the same places, and leads to the loss."""
    sources, places = trace.vectors(site, "values_from"), trace.scalars(site, "places")
    lengths = dict(trace.scalars(loss, "sequence_length"))
    if not sources or loss.index not in graph.downstream(site.index):
        return False
    same = any(lengths.get(step) == length for step, length in places)
    made_by = {int(index) for _, indices in sources for index in indices}
    return same and any(index == embedding or embedding in graph.upstream(index) for index in made_by)
