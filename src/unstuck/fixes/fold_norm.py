"""Let linear layers and convolutions absorb the batch normalisation behind them, for inference.

## What it does
In evaluation mode batch normalisation is an affine map of each unit, y = (x - mean) · gain / √(var + eps) + shift, and
a linear layer or convolution that computes x can compute y: `unstuck.fold_norms(model, inputs)` multiplies its
weights, sets its bias and puts `nn.Identity` in the norm's place. Outputs in evaluation mode stay equal within
rounding.

## When it must not be used
Before more training: batches no longer normalise anything. Refused for models in training mode; norms stay where
something else takes the layer's output, where layer or norm is used twice, and where a weight is computed from others.

## References
Ioffe & Szegedy 2015, algorithm 2, https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unstuck.fixes import snippet
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.state import Generators
from unstuck.fixes.structure import Seat, seat_of
from unstuck.fixes.task import Task
from unstuck.trace import Kind, Site

NAME = "fold-norm-for-inference"
FOLDABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_norms(model: nn.Module, inputs: Any) -> list[Fix]:
    """Fold batch normalisations into the layers before them, in place; return what was done, one entry a norm.

    `inputs` is one batch that the model is called on (a tuple or dict is spread over its arguments): once to see which
    layer feeds which norm, and once after each fold. Outputs in evaluation mode stay equal within rounding (folds are
    computed in float64); the norms' places hold `nn.Identity`. The model can be trained no longer as it was, so it must
    be in evaluation mode. A norm stays where anything else takes its layer's output, where either is used twice, where
    the layer comes in several groups or computes its weight, and where the outputs do not stay equal. Raises ValueError
    for a model in training mode, and for one whose output depends on no parameter.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("folding is for inference: call model.eval() first, and keep a copy if you will train again")
    task = Task(model, [(inputs, None)], lambda outputs, _: _sum(outputs))
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    added: list[tuple[Tensor, nn.Parameter]] = []
    fixes = []
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        session = task.first_pass()
        patient = Patient(session, [model])
        expected = _outputs(task)
        for site in session.trace.of_kind(Kind.WEIGHT_LAYER):
            with suppress(Withheld):
                fold = _plan(patient, site)
                kept = False
                try:
                    fold.do()
                    kept = _stays(task, expected)
                finally:
                    if not kept:
                        fold.undo()
                if kept:
                    fixes.append(fold.record(site))
                    added.extend(fold.added)
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for weight, bias in added:
            bias.requires_grad_(weight.requires_grad)
    return fixes


def _plan(patient: Patient, site: Site) -> _Fold:
    """Return how to fold the norm that takes a layer's output; raises Withheld when there is none, or not alone."""
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
    return _Fold(seat, norm_seat, norm)


class _Fold:
    """One norm folded into one layer."""

    def __init__(self, seat: Seat, norm_seat: Seat, norm: _BatchNorm) -> None:
        self._seat, self._norm_seat, self._norm = seat, norm_seat, norm
        self._held = dict(seat.module._parameters)
        self._values = [(p, p.detach().clone()) for p in self._held.values() if p is not None]
        self._largest = math.nan
        self.added: list[tuple[Tensor, nn.Parameter]] = []  # (weight, new bias)

    def do(self) -> None:
        module = self._seat.module
        self._largest = _affine(module, self._norm)
        weight, bias = module._parameters["weight"], module._parameters["bias"]
        if self._held["bias"] is None and weight is not None and bias is not None:
            self.added.append((weight, bias))
        self._norm_seat.put(nn.Identity().train(self._norm.training))

    def undo(self) -> None:
        self._norm_seat.parent._modules[self._norm_seat.name] = self._norm
        self._seat.module._parameters.update(self._held)
        for parameter, value in self._values:
            parameter.data.copy_(value)

    def record(self, site: Site) -> Fix:
        fuse = "fuse_linear_bn_eval" if isinstance(self._seat.module, nn.Linear) else "fuse_conv_bn_eval"
        layer, norm = self._seat.path, self._norm_seat.path
        both = f"{snippet.module(layer)}, {snippet.module(norm)}"
        return Fix(
            NAME,
            "",
            Applicability.SAFE,
            f"{norm} into {layer}",
            site.location,
            "largest factor of a unit",
            "1",
            1.0,
            self._largest,
            f"torch.nn.utils.fusion.{fuse}({both})  # in place of both",
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


def _outputs(task: Task) -> list[Tensor]:
    """Return what the model makes of the batch, with the random numbers it will be given again."""
    generators = Generators()
    try:
        with torch.no_grad():
            return list(_floating(task.forward(task.batches[0][0])))
    finally:
        generators.restore()


def _stays(task: Task, expected: list[Tensor]) -> bool:
    """Tell whether the outputs are what they were, by the largest error against the largest output."""
    try:
        outputs = _outputs(task)
    except Exception:  # noqa: BLE001  (the model may ask anything of the norm that has gone)
        return False
    if [o.shape for o in outputs] != [e.shape for e in expected]:
        return False
    return all(
        float((output - wanted).abs().max()) <= math.sqrt(torch.finfo(wanted.dtype).eps) * float(wanted.abs().max())
        for output, wanted in zip(outputs, expected, strict=True)
        if wanted.numel()
    )


def _floating(outputs: Any) -> Iterator[Tensor]:
    """Yield the tensors of floating-point numbers in nested tuples, lists and dicts."""
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, dict | Sequence) and not isinstance(outputs, str):
        for value in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from _floating(value)


def _sum(outputs: Any) -> Tensor:
    return sum((value.sum().cpu() for value in _floating(outputs)), torch.zeros(()))
