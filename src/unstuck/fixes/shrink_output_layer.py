"""shrink-output-layer: start with nearly uniform predictions.

Small output weights and a zero bias make every logit nearly equal, so that the loss starts at its baseline, -ln(1/C)
for C classes, instead of at the price of confident mistakes. Independent logits of standard deviation s cost about
s²/2 nat above the baseline (second-order expansion of log-sum-exp), so 0.1 leaves 0.005 nat.

Do not use on loaded weights, on weights shared with an embedding, or where the bias holds a prior on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Layer, Patient, Remedy, Withheld
from unstuck.trace import Kind, Role, Site

LOGIT_STD = 0.1  # nats: about 0.005 nat above the baseline
UNEVEN = 3.0  # standard deviations that class counts must be from even ones, beyond what chance makes of them


def shrink(weight: Tensor, biases: Sequence[Tensor], measured_std: float) -> float:
    """Scale `weight` in place so that logits of std `measured_std` get at most `LOGIT_STD`; zero `biases`.

    Returns the factor (1 when the logits were small enough). Raises ValueError when the measured std is not finite.
    """
    if not 0 <= measured_std < float("inf"):
        raise ValueError(f"cannot shrink an output layer whose logits have std {measured_std}")
    factor = min(1.0, LOGIT_STD / measured_std) if measured_std else 1.0
    weight.data.mul_(factor)
    for bias in biases:
        bias.data.zero_()
    return factor


def log_prior(target: Tensor, classes: int, op: str) -> Tensor | None:
    """Return the logits that say no more than how frequent each class is, shape (classes,), float64.

    Counts are smoothed by +1. `target` holds class indices, for the operation "binary_cross_entropy_with_logits"
    numbers from 0 to 1 with the classes, if several, in its last dimension. None where they are neither, where a class
    is missing (of yes and no: of each column, whose logit is 0 then), as in batches of sorted data, and where the
    classes are no less even than chance would have them.
    """
    if op == "binary_cross_entropy_with_logits":
        columns = target.double().reshape(-1, classes) if target.numel() % classes == 0 else None
        if columns is None or not bool(((columns >= 0) & (columns <= 1)).all()):
            return None
        ones, half = columns.sum(0), len(columns) / 2
        uneven = ((ones - half).abs() > UNEVEN * math.sqrt(half / 2)) & (ones > 0) & (ones < len(columns))
        return torch.where(uneven, ((ones + 1) / (len(columns) - ones + 1)).log(), 0.0) if uneven.any() else None
    if target.is_floating_point() or classes < 2:
        return None
    labels = target[(target >= 0) & (target < classes)].flatten().long()
    counts = torch.bincount(labels, minlength=classes).double()
    expected = max(1, len(labels)) / classes
    chi_square = float((counts - expected).pow(2).sum()) / expected
    if not counts.all() or chi_square <= classes - 1 + UNEVEN * math.sqrt(2.0 * (classes - 1)):
        return None
    logits = ((counts + 1) / (counts + 1).sum()).log()
    return logits - logits.mean()


class ShrinkOutputLayer(Remedy):
    """Shrink the output layer so that the network starts without an opinion.

    ## What it does
    In a forward pass on the first batch, scales the output layer's weights so that its logits have a standard deviation
    of 0.1 and zeroes its bias, so that the loss starts at its baseline, -ln(1/C) nat for C classes. Where the labels of
    the batch are less even than chance and every class is among them, the bias becomes a prior instead: the logarithm
    of their frequencies (the log-odds of a yes). A batch that lacks a class, as those of sorted data do, gives none. A
    prior from a small batch of even classes is noise: with 27 of them and 8 samples it cost 0.04 nat after 20 steps,
    with uneven ones and 256 samples it gained 0.3. Where only the first steps can tell (a loss that falls because its
    logits shrink), the training goes back to where it began.

    ## When it must not be used
    On loaded weights, on weights shared with an embedding (both are refused), or where the bias is a prior on purpose.

    ## References
    Init well, in A Recipe for Training Neural Networks, https://karpathy.github.io/2019/04/25/recipe/; second-order
    expansion of log-sum-exp: logits of standard deviation s cost about s²/2 nat above the baseline.
    """

    name = "shrink-output-layer"
    initialises = True
    in_flight = True
    rewinds = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Shrink the layer that feeds the loss."""
        if finding.code == "L001":
            if patient.repeat is None:
                raise Withheld("it acts in the first forward pass, which is over")
            if fixes := patient.repeat([self.name]):
                return fixes
        layer, std = _output_layer(patient, finding)
        patient.rewind()
        factor = shrink(layer.weight, layer.biases, std)
        for parameter in (layer.weight, *layer.biases):
            patient.forget_moments(parameter)
        lines = snippet.multiplied(snippet.parameters(patient.trace, [layer.named_weight[0]]), factor)
        biases = [snippet.parameter(patient.trace, name) for name, _ in layer.named_biases]
        return [
            self.fix(
                finding,
                site=layer.names,
                statistic="logits' std at the start",
                unit="1",
                before=std,
                after=std * factor,
                snippet="\n".join([*lines, *(f"{bias}.data.zero_()" for bias in biases)]),
                step=patient.step,
            )
        ]


def _output_layer(patient: Patient, finding: Finding) -> tuple[Layer, float]:
    """Return the layer that makes the logits of the finding's loss, and their standard deviation at step 0."""
    trace = patient.trace
    sites: list[Site] = [trace.sites[finding.site_index]] if finding.site_index is not None else []
    feeding = [producer for site in sites for producer in trace.producers(site, direct=False)]
    feeding += [p for site in feeding if site.kind is Kind.SOFTMAX for p in trace.producers(site)]
    layers = [site for site in feeding if site.kind is Kind.WEIGHT_LAYER]
    if len(layers) != 1:
        raise Withheld(f"{finding.site} is not fed by one layer alone")
    layer, output = patient.layer_at(layers[0]), trace.summary(layers[0], Role.OUTPUT, 0)
    if output is None or not (math.isfinite(output.std) and output.std > LOGIT_STD):
        raise Withheld(f"the outputs of {layers[0].label} are small at the start")
    return layer, output.std
