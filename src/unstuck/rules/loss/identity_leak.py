"""L018. Measured on the ids an embedding got and the targets of the same pass, compared position by position."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from unstuck.findings import Evidence, Finding
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.rules.together import size_at
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Kind, Role, Signal, Site, Trace

MIN_IDENTITY = 0.99  # of the targets; BERT leaves a tenth of its hidden tokens in place, others none
FEW = 1.5  # positions of each sequence, at most, whose output is used: the last one
MAX_LOSS = 0.2  # of the baseline; a network that copies gets there in a few hundred steps


class IdentityLeak(Rule):
    """Each target of a sequence is the token that the network is given at the same position.

    ## What it does
    Compares the integer targets of `cross_entropy` or `nll_loss` with the ids that an embedding got in the same pass.
    It fires when 99 % of them are the ids of the same positions, no narrower layer stands between, and the loss has
    fallen below a fifth of its baseline: the network copies.

    ## Why is this bad
    Copying the input is all there is to learn. The loss goes to zero, and a model that was to predict the next token,
    or a hidden one, can do neither.

    ## Evidence
    The share of targets that are inputs, their number, and the loss beside its baseline.

    ## Stays silent on
    Targets shifted by a position; masked language models, whose hidden tokens are replaced in the input; tokens that
    are ignored by the loss; tokens that are hidden after the embedding; autoencoders: sequences that pass a layer with
    fewer positions or the last state of a recurrent one, or a decoder that is fed the targets one step later; losses
    that stay high.

    ## Example
        inputs, targets = rows[:, :-1], rows[:, :-1]
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    ## Fix
    Shift the targets (`rows[:, 1:]`), or hide in the input what is to be predicted.

    ## References
    - Language modelling with torch, https://docs.pytorch.org/tutorials/beginner/transformer_tutorial.html
    - BERT, Devlin et al. 2018, https://arxiv.org/abs/1810.04805
    """

    code = "L018"
    name = "identity-leak"
    stage = Stage.LOSS
    needs = (Signal.STEPS, Signal.LOSS_CALL)
    explains = ("L002", "S002")
    min_identity = Threshold(MIN_IDENTITY, "of the targets")
    max_loss = Threshold(MAX_LOSS, "of the baseline")

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each loss over sequences of classes."""
        graph = Graph(trace)
        for loss in trace.of_kind(Kind.LOSS):
            seen = trace.scalars(loss, "identity_share")
            share = float(np.median([value for _, value in seen])) if seen else 0.0
            if share < self.min_identity or any(flag for _, flag in trace.scalars(loss, "identity_shifted")):
                continue
            reached = _loss_reached(trace, loss)
            embedding = trace.sites[int(trace.scalars(loss, "identity_embedding")[-1][1])]
            copied = reached is not None and reached < self.max_loss and not trace.scalars(embedding, "hidden")
            if (
                copied
                and loss.index in graph.downstream(embedding.index)
                and not _narrow(trace, graph, embedding, loss)
            ):
                yield self.finding(
                    loss,
                    steps=(seen[0][0], seen[-1][0]),
                    measured=100 * share,
                    threshold=100 * self.min_identity,
                    unit="%",
                    message=(
                        f"{share:.0%} of the targets are the ids that {embedding.label} is given at the same places; "
                        f"the loss has come down to {reached:.0%} of its baseline"
                    ),
                    evidence=(Evidence("loss beside its baseline", 100 * (reached or 0.0), "%"),),
                )


def _loss_reached(trace: Trace, loss: Site) -> float | None:
    """Return the loss of the last sampled steps as a share of its baseline (medians)."""
    calls = [call for call in trace.loss_calls if call.site == loss.index and call.baseline and call.baseline > 0]
    ratios = [call.value / call.baseline for call in calls if call.baseline and math.isfinite(call.value)]
    last = ratios[-MIN_SAMPLED_STEPS:]
    return float(np.median(last)) if last else None


def _narrow(trace: Trace, graph: Graph, embedding: Site, loss: Site) -> bool:
    """Tell whether between the two is a bottleneck: a layer that passes on fewer positions than the sequences have."""
    between = graph.downstream(embedding.index) & graph.upstream(loss.index)
    for index in between:
        layer = trace.sites[index]
        if layer.kind is Kind.RECURRENT and _last_state_only(trace, layer, loss):
            return True
        weights = [p for p in trace.parameters_of(layer) if p.slot == "weight"]
        if layer.kind is not Kind.WEIGHT_LAYER or not weights:
            continue
        for step, positions in trace.scalars(loss, "target_elements")[-1:]:
            out, units = trace.summary(layer, Role.OUTPUT, step), trace.scalar(weights[0], "units")
            if out is not None and units and out.count / units < positions * size_at(trace, step):
                return True
    return False


def _last_state_only(trace: Trace, layer: Site, loss: Site) -> bool:
    """Tell whether nothing but one position of a recurrent layer's output, or its state, goes on: by its gradient."""
    _, zeros = trace.series(layer, Role.OUTPUT_GRADIENT, "zero_fraction")
    lengths = [length for _, length in trace.scalars(loss, "identity_length")]
    return not len(zeros) or 1.0 - float(np.median(zeros)) <= FEW / max(1.0, float(np.median(lengths or [1.0])))
