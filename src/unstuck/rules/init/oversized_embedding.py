"""I005. After Press and Wolf 2017, https://arxiv.org/abs/1608.05859, on tied embeddings, and GPT-2's std of 0.02."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unstuck.findings import Evidence, Finding, Severity
from unstuck.rules.graph import Graph
from unstuck.rules.rule import Rule, Stage, Threshold
from unstuck.trace import Kind, Role, Signal, Site, Trace

MAX_STD = 3.0  # of what the layer makes of it (1); healthy pre-activations have 0.3 to 3, healthy logits below 1
MIN_TABLE = 1.5  # std of the table (1); torch's default is 1, which layers drawn for unit inputs expect
MAX_LAYER_SCALE = 2.0  # rms(weights) × √fan_in (1); above it the layer is large itself (I002); He has 1.41


class OversizedEmbedding(Rule):
    """An embedding table starts so large that logits or pre-activations made from it are out of scale.

    ## What it does
    At the first step it looks at two places. Where the table is also the weight of the output layer, it fires when
    the logits given to the loss have a standard deviation above 3 and the table's rms times √width is above 3 as well.
    Where a weight layer takes the embedding, it fires when that layer's output has one above 3 though its weights are
    of usual scale, and the table's own is above 1.5.

    ## Why is this bad
    Tied logits of a table with unit entries have a standard deviation of √width: the network starts out sure of
    wrong answers. Behind a large table, layers saturate, and the few rows seen in each batch change slowly beside
    their size.

    ## Evidence
    The table's root mean square, the standard deviation of what is made from it, and the width.

    ## Stays silent on
    Tables that feed a normalisation layer and are not tied; torch's default of N(0, 1) before a layer drawn for unit
    inputs; logits that are scaled down before the loss; tables of any size whose layer makes up for it; tables that
    are trained already.

    ## Example
        tokens = nn.Embedding(50_000, 768)  # N(0, 1)
        logits = F.linear(h, tokens.weight)  # with a standard deviation of 28

    ## Fix
    Draw a tied table with std 0.02 or 1 / √width (`nn.init.normal_(tokens.weight, std=0.02)`), and any other one with
    std 1 at most. `rescale-embedding` multiplies the table by one number.

    ## References
    - Using the Output Embedding to Improve Language Models, https://arxiv.org/abs/1608.05859
    - Language Models are Unsupervised Multitask Learners (GPT-2),
      https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    - torch.nn.Embedding, https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html
    """

    code = "I005"
    name = "oversized-embedding"
    stage = Stage.INIT
    severity = Severity.WARNING
    needs = (Signal.START, Signal.WEIGHT_LAYERS, Signal.PARAMETER_GRADIENTS)
    explains = ("I002", "I007", "L001", "L003", "L013", "A001", "A002", "G002", "S001", "U002", "U003")
    fixes = ("rescale-embedding",)
    max_std = Threshold(MAX_STD, "std of what a layer makes of it")
    min_table = Threshold(MIN_TABLE, "rms of the table")

    def lacking(self, trace: Trace) -> str | None:
        """Also needs an embedding."""
        if missing := super().lacking(trace):
            return missing
        return None if trace.of_kind(Kind.EMBEDDING) else "an embedding"

    def detect(self, trace: Trace) -> Iterator[Finding]:
        """Judge each table at step 0, where it is tied and where it feeds a layer."""
        if trace.facts.weights_loaded:
            return
        graph = Graph(trace)
        reported: set[int] = set()
        for embedding in trace.of_kind(Kind.EMBEDDING):
            table = next((p for p in trace.parameters_of(embedding) if p.slot == "weight"), None)
            value = trace.summary(table, Role.VALUE, 0) if table is not None else None
            if table is None or value is None or table.index in reported or not math.isfinite(value.rms):
                continue
            found = self._tied(trace, graph, table, value.rms) or self._first(trace, embedding, value.rms)
            if found is not None:
                reported.add(table.index)
                yield self._report(embedding, table, value.rms, *found)

    def _tied(self, trace: Trace, graph: Graph, table: Site, rms: float) -> tuple[str, float] | None:
        """Return what and how large the logits of an output layer with the table's weights are, if too large."""
        for layer in trace.of_kind(Kind.WEIGHT_LAYER):
            if table.index not in layer.parameters or not graph.is_output_layer(layer):
                continue
            losses = (trace.sites[i] for i in graph.downstream(layer.index) if trace.sites[i].kind is Kind.LOSS)
            stds = [s.std for loss in losses for s in [trace.summary(loss, Role.INPUT, 0)] if s]
            own = rms * math.sqrt(layer.fan_in or 0)
            if stds and min(stds) > self.max_std and own > self.max_std:
                return f"the logits of {layer.label}, which has the same weights,", min(stds)
        return None

    def _first(self, trace: Trace, embedding: Site, rms: float) -> tuple[str, float] | None:
        """Return what and how large a weight layer's output is that takes the embedding, if too large."""
        followers = trace.consumers(embedding, direct=False)
        if rms <= self.min_table or any(site.kind is Kind.NORM for site in followers):
            return None
        for layer in followers:
            output = trace.summary(layer, Role.OUTPUT, 0) if layer.kind is Kind.WEIGHT_LAYER else None
            weights = [p for p in trace.parameters_of(layer) if p.slot == "weight"]
            own = trace.summary(weights[0], Role.VALUE, 0) if len(weights) == 1 else None
            if output is None or own is None or own.rms * math.sqrt(layer.fan_in or 0) > MAX_LAYER_SCALE:
                continue
            if output.std > self.max_std:
                return f"the outputs of {layer.label}", output.std
        return None

    def _report(self, embedding: Site, table: Site, rms: float, what: str, std: float) -> Finding:
        width = table.shape[-1] if table.shape else 0
        return self.finding(
            embedding,
            steps=(0, 0),
            measured=std,
            threshold=self.max_std,
            unit="1",
            message=(
                f"the table of {embedding.label} starts with rms {rms:.2g} at width {width}, so that {what} have a "
                f"standard deviation of {std:.2g}; at most {self.max_std:.2g} is healthy"
            ),
            evidence=(Evidence("rms of the table", rms), Evidence("width", float(width))),
        )
