"""revive-dead-units: draw units that respond to nothing afresh, without a jump of the loss.

A dead unit gets no gradient, so nothing but a change of its incoming weights brings it back; those are drawn anew and
its bias is zero. Outgoing weights of zero let the network compute what it did, and grow from there (the recycling of
dormant neurons of Sokar et al. 2023, https://arxiv.org/abs/2302.12902, Algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.findings import Finding
from unstuck.fixes import snippet
from unstuck.fixes.fix import Fix
from unstuck.fixes.remedy import Layer, Patient, Remedy, Withheld
from unstuck.trace import Kind, Role, Site, Trace

CONVOLUTION = "conv"


@dataclass(frozen=True)
class Part:
    """Elements of a parameter, all indices along `dim`."""

    name: str
    tensor: Tensor
    dim: int
    indices: Tensor

    def mask(self) -> Tensor:
        """Return which elements belong to it."""
        shape = [1] * self.tensor.dim()
        shape[self.dim] = -1
        chosen = torch.zeros(self.tensor.shape[self.dim], dtype=torch.bool)
        chosen[self.indices] = True
        return chosen.view(shape).expand(self.tensor.shape).to(self.tensor.device)


class ReviveDeadUnits(Remedy):
    """Draw dead units afresh.

    ## What it does
    For each unit of an activation function that responded to nothing: draws its incoming weights from a normal
    distribution of standard deviation gain / √fan_in, zeroes its bias, zeroes its outgoing weights, so that the network
    computes what it did, and clears what optimizers have gathered about all of these.

    ## When it must not be used
    While what kills the units goes on: a learning rate that is too high, a penalty on activity, a function that cannot
    respond. It is refused where a layer of its own does not stand directly on each side of the function, where a layer
    is shared or frozen, and for functions that are bounded, whose dead units still pass a constant on.

    ## References
    - Sokar et al. 2023, The Dormant Neuron Phenomenon, https://arxiv.org/abs/2302.12902
    - torch.nn.init.calculate_gain, https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain
    """

    name = "revive-dead-units"
    in_flight = True

    def apply(self, patient: Patient, finding: Finding) -> list[Fix]:
        """Revive the dead units of the activation that the finding points at."""
        site, dead = dead_units(patient, finding)
        layer = _incoming(patient, site)
        weight = Part(
            layer.named_weight[0],
            layer.weight,
            patient.network.unit_dim(layer.site.parameters[_weight_position(patient, layer)]),
            dead,
        )
        if weight.tensor.shape[weight.dim] <= int(dead.max()) or any(bias.dim() != 1 for bias in layer.biases):
            raise Withheld(f"the units of {site.label} are not those of {layer.site.label}")
        biases = [Part(name, bias, 0, dead) for name, bias in layer.named_biases]
        outgoing = list(_outgoing(patient, site, layer, dead))
        if layer.site.fan_in is None:
            raise Withheld(f"{layer.site.label} has no known number of inputs")
        std = (site.gain or 1.0) / math.sqrt(layer.site.fan_in)
        mask = weight.mask()
        drawn = torch.empty(weight.tensor.shape, dtype=torch.float32).normal_(0.0, std, generator=patient.generator)
        weight.tensor.data.copy_(torch.where(mask, drawn.to(weight.tensor), weight.tensor.data))
        for part in (*biases, *outgoing):  # through `data`: without an optimizer a forward pass is under way
            part.tensor.data.masked_fill_(part.mask(), 0)
        for part in (weight, *biases, *outgoing):
            patient.forget_moments(part.tensor, part.mask())
        return [
            self.fix(
                finding,
                site=", ".join(part.name for part in (weight, *biases, *outgoing)),
                statistic=f"dead units of {site.label}",
                unit="units",
                before=float(len(dead)),
                snippet=_snippet(patient.trace, weight, std, [*biases, *outgoing]),
                step=patient.step,
            )
        ]


def dead_units(patient: Patient, finding: Finding) -> tuple[Site, Tensor]:
    """Return the activation that a finding points at, and the indices of its dead units, ascending."""
    if finding.site_index is None:
        raise Withheld("the finding names no activation")
    site = patient.trace.sites[finding.site_index]
    first, last = finding.steps
    mask = patient.trace.dead_units(site, [step for step in patient.trace.steps if first <= step <= last])
    if mask is not None and not patient.in_flight:  # the network is back at its start
        mask &= _dead_at_start(patient, site, len(mask))
    if site.kind is not Kind.ACTIVATION or mask is None or not mask.any():
        raise Withheld(f"which units of {site.label} are dead just now is not known, or none is")
    if site.bounded:
        raise Withheld(f"dead units of {site.label} still pass a constant on")
    return site, torch.from_numpy(mask.nonzero()[0])


def _dead_at_start(patient: Patient, site: Site, units: int) -> npt.NDArray[np.bool_]:
    summary = patient.trace.summary(site, Role.INPUT)
    if summary is None or summary.units is None or len(summary.units) != units:
        return np.zeros(units, dtype=bool)
    return summary.units.saturated


def _incoming(patient: Patient, site: Site) -> Layer:
    producers = patient.trace.producers(site, direct=False)
    if len(producers) != 1 or producers[0].kind is not Kind.WEIGHT_LAYER or patient.trace.producers(site) != producers:
        raise Withheld(f"what makes the input of {site.label} is not one weight layer")
    if patient.trace.consumers(producers[0], direct=False) != [site]:
        raise Withheld(f"the output of {producers[0].label} goes elsewhere too")
    return patient.layer_at(producers[0])


def _weight_position(patient: Patient, layer: Layer) -> int:
    slots = [patient.trace.sites[index].slot for index in layer.site.parameters]
    return slots.index("weight")


def _outgoing(patient: Patient, site: Site, layer: Layer, dead: Tensor) -> Iterator[Part]:
    """Yield the outgoing weights of dead units; raises Withheld when some of them cannot be told."""
    units = layer.weight.shape[patient.network.unit_dim(layer.site.parameters[_weight_position(patient, layer)])]
    consumers = [consumer for near in patient.trace.consumers(site, direct=False) for consumer in _past(patient, near)]
    if not consumers:
        raise Withheld(f"nothing takes the output of {site.label}")
    for consumer in consumers:
        if consumer.kind is not Kind.WEIGHT_LAYER or len(patient.trace.producers(consumer, direct=False)) != 1:
            raise Withheld(
                f"{consumer.label}, which takes the output of {site.label}, takes others too, or is no layer"
            )
        after = patient.layer_at(consumer)
        unit_dim = patient.network.unit_dim(consumer.parameters[_weight_position(patient, after)])
        if after.weight.dim() < 2 or unit_dim > 1:
            raise Withheld(f"{after.named_weight[0]} is no matrix or kernel")
        inputs = after.weight.shape[1 - unit_dim]
        if inputs % units:
            raise Withheld(f"{consumer.label} has {inputs} inputs for the {units} units of {site.label}")
        yield Part(after.named_weight[0], after.weight, 1 - unit_dim, _spread(layer.site, dead, units, inputs // units))


def _past(patient: Patient, site: Site) -> list[Site]:
    """Return the site, or what takes its output where it is a dropout."""
    if site.kind is not Kind.DROPOUT:
        return [site]
    return [further for near in patient.trace.consumers(site, direct=False) for further in _past(patient, near)]


def _spread(layer: Site, dead: Tensor, units: int, times: int) -> Tensor:
    """Return the inputs that dead units make after flattening: channels come first in images, last in sequences."""
    if layer.op.startswith(CONVOLUTION):
        return (dead[:, None] * times + torch.arange(times)).flatten()
    return (torch.arange(times)[:, None] * units + dead).flatten()


def _snippet(trace: Trace, weight: Part, std: float, others: list[Part]) -> str:
    def at(part: Part) -> str:
        return f"{snippet.parameter(trace, part.name)}.data[{':, ' * part.dim}{part.indices.tolist()}]"

    return "\n".join([f"{at(weight)} = torch.randn_like({at(weight)}) * {std:.4g}", *(f"{at(p)} = 0" for p in others)])
