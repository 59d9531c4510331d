"""fold-bias-into-norm: drop the bias of a layer that feeds batch normalisation.

In training mode batch normalisation subtracts the batch's mean, and any constant with it; in evaluation mode it
subtracts `running_mean`. Moving the bias from the layer into `running_mean` (running_mean - bias) leaves both outputs
as they were (Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167). Safe.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import LiveNetwork, Patient, Remedy, Withheld
from unstuck.fixes.structure import leave
from unstuck.trace import Kind, Site, Trace


def fold(bias: Tensor, running_mean: Tensor | None) -> float:
    """Move `bias`, shape (units,), into `running_mean`, shape (units,), in place; return the bias's rms before.

    Raises ValueError when the shapes differ.
    """
    if running_mean is not None and running_mean.shape != bias.shape:
        raise ValueError(f"bias of shape {tuple(bias.shape)} does not fit running_mean of {tuple(running_mean.shape)}")
    before = float(bias.detach().double().pow(2).mean().sqrt())
    with torch.no_grad():
        if running_mean is not None:
            running_mean.data.sub_(bias.detach().to(running_mean.dtype))
        bias.data.zero_()
    return before


def drop(model: nn.Module, bias: Tensor) -> str | None:
    """Set the attribute of `model` (or a submodule) that holds `bias` to None; return its dotted name, or None."""
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is bias:
                module._parameters[name] = None
                return f"{path}.{name}" if path else name
    return None


def fold_redundant(network: LiveNetwork, model: nn.Module | None = None) -> list[Fix]:
    """Fold every bias that feeds nothing but one batch normalisation of its own; return what was done.

    With `model` the emptied bias is taken out of it as well. The network must have been watched for a whole pass, so
    that everything that takes a layer's output is known.
    """
    fixes = []
    for layer in network.trace.of_kind(Kind.WEIGHT_LAYER):
        found = _redundant(network, layer)
        if found is None:
            continue
        bias, running_mean, label = found
        rms = fold(bias, running_mean)
        name = (drop(model, bias) if model is not None else None) or label
        line = f"{snippet.held(network.trace, label)} = None  # or build the layer with bias=False"
        fixes.append(
            Fix(
                FoldBias.name,
                FoldBias.code,
                Applicability.SAFE,
                name,
                layer.location,
                "rms of the bias",
                "1",
                rms,
                0.0,
                line,
            )
        )
    return fixes


def is_folded(finding: Finding, trace: Trace, fixes: Sequence[Fix]) -> bool:
    """Tell whether a finding is of a bias that was folded while a script trains.

    Emptied, but still held by the script's own layer, it would be found redundant by its place alone.
    """
    if finding.code != FoldBias.code or finding.site_index is None:
        return False
    biases = {site.label for site in trace.parameters_of(trace.sites[finding.site_index]) if site.slot == "bias"}
    return any(fix.name == FoldBias.name and fix.kept and fix.site in biases for fix in fixes)


def _redundant(network: LiveNetwork, layer: Site) -> tuple[Tensor, Tensor, str] | None:
    """Return (bias, running mean, the bias's name) of a layer whose bias may be folded, or None."""
    trace = network.trace
    biases = [site for site in trace.parameters_of(layer) if site.slot == "bias"]
    consumers = trace.consumers(layer, direct=False)
    if len(biases) != 1 or len(consumers) != 1 or trace.consumers(layer) != consumers:
        return None
    norm = consumers[0]
    if norm.op != "batch_norm" or trace.producers(norm, direct=False) != [layer]:
        return None
    bias, running_mean = network.parameter(biases[0].index), network.running_mean(norm.index)
    if bias is None or running_mean is None or running_mean.shape != bias.shape or network.uses(bias) != 1:
        return None
    return (bias, running_mean, biases[0].label) if bool(bias.detach().any()) or bias.requires_grad else None


class FoldBias(Remedy):
    """Drop the bias of a layer that feeds batch normalisation.

    ## What it does
    Moves the bias into the normalisation's `running_mean` and takes it out of the layer. Outputs stay equal within
    rounding in training mode (the batch's mean takes any constant away) and in evaluation mode.

    ## When it must not be used
    Where something else takes the layer's output too, or where the parameter is used twice: both are refused.

    ## References
    Ioffe & Szegedy 2015, section 3.2, https://arxiv.org/abs/1502.03167
    """

    name = "fold-bias-into-norm"
    code = "N001"
    applicability = Applicability.SAFE

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Fold all redundant biases of the network."""
        before = [parameter for model in patient.models for parameter in model.parameters()]
        fixes = [fix for model in patient.models for fix in fold_redundant(patient.network, model)]
        if not fixes:
            raise Withheld(f"the output of {finding.site} goes elsewhere too, or its parameters are used twice")
        left = {id(parameter) for model in patient.models for parameter in model.parameters()}
        leave(patient, [parameter for parameter in before if id(parameter) not in left])
        return fixes
