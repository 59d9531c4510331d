"""fold-norm-for-inference: let linear layers and convolutions absorb the batch normalisation behind them.

In evaluation mode batch normalisation is an affine map of each unit (Ioffe & Szegedy 2015, algorithm 2,
https://arxiv.org/abs/1502.03167): y = (x - mean) · gain / √(var + eps) + shift. A layer that computes x can compute y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.structure import leave, seat_of
from unstuck.fixes.task import Task
from unstuck.trace import Kind, Site

FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_norms(model: nn.Module, inputs: Any) -> list[Fix]:
    """Fold batch normalisations into the layers before them, in place; return what was done, one entry a norm.

    `inputs` is one batch that the model is called on (a tuple or dict is spread over its arguments), to see which
    layer feeds which norm. Outputs in evaluation mode stay equal within rounding (computed in float64); the norms'
    places hold `nn.Identity`. The model can be trained no longer as it was, so it must be in evaluation mode. A norm
    stays where anything else takes its layer's output, where either is used twice, or where the layer comes in several
    groups or computes its weight. Raises ValueError for a model in training mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("folding is for inference: call model.eval() first, and keep a copy if you will train again")
    task = Task(model, [(inputs, None)], _sum_of_outputs)
    snapshot = task.snapshot()
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        session = task.first_pass()
    finally:
        snapshot.restore()
    patient = Patient(session, [model])
    fixes = []
    for site in session.trace.of_kind(Kind.WEIGHT_LAYER):
        try:
            fixes.append(_fold(patient, site))
        except Withheld:
            continue
    return fixes


def _fold(patient: Patient, site: Site) -> Fix:
    trace = patient.trace
    consumers = trace.consumers(site, direct=False)
    if len(consumers) != 1 or consumers[0].op != "batch_norm" or trace.consumers(site) != consumers:
        raise Withheld("its output goes elsewhere too")
    layer, mean = patient.layer_at(site), patient.network.running_mean(consumers[0].index)
    if mean is None or trace.producers(consumers[0], direct=False) != [site]:
        raise Withheld("the norm takes other outputs too")
    seat, norm_seat = seat_of(patient, layer.weight), seat_of(patient, mean)
    module, norm = seat.module, norm_seat.module
    plain = type(module) in FOLDABLE and module._parameters.get("weight") is layer.weight
    if not plain or not isinstance(norm, _BatchNorm) or len(patient.trace.parameters_of(consumers[0])) not in (0, 2):
        raise Withheld("it is of another form")
    if any(patient.network.uses(p) != 1 for p in norm.parameters()) or _calls(patient, consumers[0]) != 1:
        raise Withheld("the norm is used twice")
    largest = _affine(module, norm)
    fuse = "fuse_linear_bn_eval" if isinstance(module, nn.Linear) else "fuse_conv_bn_eval"
    leave(patient, norm.parameters())
    norm_seat.put(nn.Identity().train(norm.training))
    return Fix(
        "fold-norm-for-inference",
        "",
        Applicability.SAFE,
        f"{norm_seat.path} into {seat.path}",
        site.location,
        "largest factor of a unit",
        "1",
        1.0,
        largest,
        f"torch.nn.utils.fusion.{fuse}(model.{seat.path}, model.{norm_seat.path})  # in place of both",
    )


def _calls(patient: Patient, norm: Site) -> int:
    """Return at how many places the norm's running statistics are used."""
    mean = patient.network.running_mean(norm.index)
    return sum(patient.network.running_mean(site.index) is mean for site in patient.trace.of_kind(Kind.NORM))


@torch.no_grad()
def _affine(module: nn.Module, norm: _BatchNorm) -> float:
    """Multiply and shift each unit of `module` as `norm` does in evaluation; return the largest factor."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = 1.0 / (norm.running_var.double() + norm.eps).sqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double() * factor
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight.copy_(weight.double() * _broadcast(module, weight, factor))
    if bias is None:
        module._parameters["bias"] = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
    else:
        bias.copy_(bias.double() * factor + shift)
    return float(factor.abs().max())


def _broadcast(module: nn.Module, weight: Tensor, factor: Tensor) -> Tensor:
    """Shape a factor of each unit, (units,), so that it multiplies a weight."""
    if not isinstance(module, TRANSPOSED):
        return factor.reshape(-1, *[1] * (weight.dim() - 1))
    groups = math.gcd(int(module.groups), len(factor))
    rows = factor.reshape(groups, 1, -1).expand(-1, len(weight) // groups, -1)
    return rows.reshape(len(weight), -1, *[1] * (weight.dim() - 2))


def _sum_of_outputs(outputs: Any, _targets: Any) -> Tensor:
    total = torch.zeros(())
    stack: list[Any] = [outputs]
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor) and value.is_floating_point():
            total = total + value.sum().to(total.device)
        elif isinstance(value, dict | Sequence) and not isinstance(value, str):
            stack.extend(value.values() if isinstance(value, dict) else value)
    return total
