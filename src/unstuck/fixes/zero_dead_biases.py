"""zero-dead-biases: take the offsets away that put the thresholds of units outside the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unstuck.capture.intervention import LayerOutput
from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.targets import Target
from unstuck.rules.init.born_dead import MAX_DEAD
from unstuck.trace import Kind, Site, Trace

SPREAD = 1.0  # standard deviations of what enters a unit, to either side of its mean: where thresholds are put


class ZeroDeadBiases(Remedy):
    """Bring the thresholds of units that are born dead, or always on, back into the data.

    ## What it does
    In one forward pass on a batch, in execution order, looks at each layer with biases before a one-sided function
    (ReLU and its kin) of whose units at least 20 % are dead or never cut anything off. The bias of such a unit is set
    so that its threshold lies within one standard deviation of its mean input, at random: a bias of zero, where the
    inputs are centred, but for the spread, without which many units would do the same. Other units stay as they are. In
    flight this happens in the script's next pass, and the training goes back to where it began. The numbers come from a
    generator with a fixed seed.

    ## When it must not be used
    Where silence at the start is wanted (gates that open later), on loaded weights, and on layers without a bias; the
    last two are refused.

    ## References
    Lu et al. 2019, Dying ReLU and Initialization, https://arxiv.org/abs/1903.06733; Salimans & Kingma 2016, section 3,
    on biases from the first batch, https://arxiv.org/abs/1602.07868
    """

    name = "zero-dead-biases"
    in_flight = True
    rewinds = True
    initialises = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Move the thresholds of the layer before the function that the finding names, and of those like it."""
        if patient.rescale is None or finding.site_index is None:
            raise Withheld("there is no further pass to do it in")
        trace = patient.trace
        own = _layer_before(trace, trace.sites[finding.site_index])
        if own is None:
            raise Withheld(f"{finding.site} is not fed by one layer alone")
        aims = {own.index: _target(patient, own, finding.code)}
        for site in trace.of_kind(Kind.ACTIVATION):
            layer = None if site.bounded else _layer_before(trace, site)
            if layer is not None and layer.index not in aims:
                try:
                    aims[layer.index] = _target(patient, layer, finding.code)
                except Withheld:
                    continue
        patient.rewind()
        fixes = patient.rescale(aims)
        if not (fixes or patient.in_flight):
            raise Withheld(f"the thresholds before {finding.site} lie within the data of the first batch")
        return fixes


@dataclass(frozen=True)
class Thresholds(Target):
    """A layer whose units are to have their thresholds (zero) within the data; `generator` spreads them."""

    generator: torch.Generator

    def mend(self, output: LayerOutput) -> Fix | None:
        """Move the units whose inputs all lie on one side of zero, when they are many."""
        if not output.biases:
            return None
        bias, value = output.biases[0], output.value.detach().double()
        units = output.unit_dim % value.dim()
        rows = value.movedim(units, 0).flatten(1)
        if bias.numel() != len(rows):
            return None
        own = bias.detach().double().flatten()[:, None]
        rows = rows if output.includes_bias else rows + own
        aside = (rows.amax(1) <= 0) | (rows.amin(1) >= 0)
        share = 100.0 * float(aside.double().mean())
        if share < MAX_DEAD:
            return None
        drawn = torch.rand(len(rows), generator=self.generator, dtype=torch.float64).to(rows.device) * 2 - 1
        moved = torch.where(aside, SPREAD * drawn * rows.std(1, correction=0) - rows.mean(1), 0.0)
        _add(output, bias, moved, units)
        after = rows + moved[:, None]
        left = (after.amax(1) <= 0) | (after.amin(1) >= 0)
        return Fix(
            ZeroDeadBiases.name,
            self.code,
            Applicability.UNSAFE,
            self.names[-1],
            self.layer.location,
            "units with their threshold outside the data",
            "%",
            share,
            100.0 * float(left.double().mean()),
            _line(self.codes[-1], bias, aside),
        )


def _add(output: LayerOutput, bias: Tensor, moved: Tensor, units: int) -> None:
    """Add to the bias, and to what the layer has made with it already."""
    bias.data.add_(moved.reshape(bias.shape).to(bias.dtype))
    if output.includes_bias:
        shape = [-1 if dim == units else 1 for dim in range(output.value.dim())]
        output.value.data.add_(moved.reshape(shape).to(output.value.dtype))


def _line(code: str, bias: Tensor, changed: Tensor) -> str:
    """Return what gives the units that were changed the biases that they have now."""
    units = changed.nonzero().flatten().tolist()
    numbers = [float(f"{number:.6g}") for number in bias.detach().flatten()[changed].tolist()]
    return f"{code}.data.view(-1)[{units}] = torch.tensor({numbers}).to({code})"


def _layer_before(trace: Trace, site: Site) -> Site | None:
    layers = [producer for producer in trace.producers(site) if producer.kind is Kind.WEIGHT_LAYER]
    return layers[0] if len(layers) == 1 else None


def _target(patient: Patient, site: Site, code: str) -> Thresholds:
    layer, trace = patient.layer_at(site), patient.trace
    if not layer.biases:
        raise Withheld(f"{site.label} has no bias")
    names = tuple(name for name, _ in (layer.named_weight, *layer.named_biases))
    return Thresholds(site, code, names, snippet.parameters(trace, names), patient.generator)
