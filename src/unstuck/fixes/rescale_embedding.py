"""rescale-embedding: bring an embedding table to a scale that what is made of it can bear."""

from __future__ import annotations

import math

from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.targets import TARGET_STD
from unstuck.rules.graph import Graph
from unstuck.trace import Kind, Site, Trace


class RescaleEmbedding(Remedy):
    """Scale an embedding table that starts too large.

    ## What it does
    Multiplies the table by one number. Where it is also the weight of the output layer, its rms becomes 1/√width, by
    which inputs of unit scale give logits of standard deviation 1, or less where the logits would be too large for the
    rule even so; elsewhere the number is such that the outputs of the layer behind the table get unit standard
    deviation. Rows of zeros (padding) stay. In flight the training goes back to where it began.

    GPT-2's rms of 0.02 belongs to a width of 768 and is too small for narrow tables: a transformer of width 32 that
    counts modulo 17 came in 200 steps to a loss of 0.06 as torch draws the table, 1.95 with 0.02, 0.13 with 1/√32.

    ## When it must not be used
    On loaded or frozen tables: refused.

    ## References
    Press & Wolf 2017, https://arxiv.org/abs/1608.05859; GPT-2,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
    """

    name = "rescale-embedding"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Scale the table of the embedding that the finding names."""
        name, table, tied = _table(patient, finding)
        patient.rewind()
        before = float(table.detach().double().pow(2).mean().sqrt())
        if not 0 < before < float("inf"):
            raise Withheld(f"{name} holds no finite numbers other than zero")
        factor = TARGET_STD / finding.measured
        usual = 1.0 / (before * math.sqrt(table.shape[-1]))
        if tied and usual * finding.measured <= finding.threshold:
            factor = usual
        table.data.mul_(factor)
        patient.forget_moments(table)
        return [
            self.fix(
                finding,
                site=name,
                statistic="rms of the table",
                before=before,
                after=before * factor,
                snippet="\n".join(snippet.multiplied(snippet.parameters(patient.trace, [name]), factor)),
                step=patient.step,
            )
        ]


def _table(patient: Patient, finding: Finding) -> tuple[str, Tensor, bool]:
    """Return the table's name, the live table, and whether an output layer uses it too."""
    trace = patient.trace
    if finding.site_index is None:
        raise Withheld("the finding names no embedding")
    site = trace.sites[finding.site_index]
    held = [p for p in trace.parameters_of(site) if p.slot == "weight"]
    table = patient.network.parameter(held[0].index) if len(held) == 1 else None
    if table is None:
        raise Withheld(f"the table of {site.label} is gone")
    if not table.requires_grad:
        raise Withheld(f"{held[0].label} is frozen")
    return held[0].label, table, _is_tied(trace, held[0])


def _is_tied(trace: Trace, table: Site) -> bool:
    graph = Graph(trace)
    layers = trace.of_kind(Kind.WEIGHT_LAYER)
    return any(table.index in layer.parameters and graph.is_output_layer(layer) for layer in layers)
