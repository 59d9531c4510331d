"""What a loss is at best when the predictions do not depend on the input: the frequencies or means of its targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Site

LEAST = 1e-6  # probability of a class that the batch has not


def note_best_constant(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write `constant_baseline` as training begins: the same loss call on predictions that know the targets' averages.

    Classes get their frequencies in the batch, and each column of other targets its mean over the batch.
    """
    predictions, target = call.input, call.arg(1, "target")
    if site is None or not recorder.at_start or recorder.replayed is not None:
        return
    if not isinstance(predictions, Tensor) or not isinstance(target, Tensor) or not predictions.numel():
        return
    with torch.no_grad():
        flat = _constant(call.op, predictions.detach(), target.detach())
        if flat is None:
            return
        rest = {name: value for name, value in call.kwargs.items() if name != "input"}
        value = call.func(flat, *call.args[1:], **rest)
    least = float(value.double().mean()) / functions.terms(call.op, call.args, call.kwargs)
    recorder.later(lambda step: recorder.trace.add_scalar(step, site.index, "constant_baseline", least), site)


def _constant(op: str, predictions: Tensor, target: Tensor) -> Tensor | None:
    if op in ("cross_entropy", "nll_loss") and not target.is_floating_point():
        return _frequencies(predictions, target)
    if predictions.shape != target.shape or not target.numel():
        return None
    values = target.to(predictions.dtype)
    if op == "cross_entropy":
        dim = 1 if values.dim() > 1 else 0
        other = [d for d in range(values.dim()) if d != dim]
        shares = values.mean(other, keepdim=True) if other else values
        return shares.clamp(min=LEAST).log().expand_as(predictions)
    mean = values.mean(0, keepdim=True) if values.dim() > 1 and len(values) > 1 else values.mean()
    if op in ("binary_cross_entropy_with_logits", "binary_cross_entropy"):
        mean = mean.clamp(LEAST, 1 - LEAST)
        mean = mean.logit() if op.endswith("logits") else mean
    return mean.expand_as(predictions)


def _frequencies(predictions: Tensor, target: Tensor) -> Tensor | None:
    dim = 1 if predictions.dim() > 1 else 0
    classes = predictions.shape[dim]
    labels = target[(target >= 0) & (target < classes)].flatten()
    if not labels.numel():
        return None
    shares = torch.bincount(labels.long(), minlength=classes).to(predictions.dtype) / labels.numel()
    shape = [classes if d == dim else 1 for d in range(predictions.dim())]
    return shares.clamp(min=LEAST).log().reshape(shape).expand_as(predictions)


LOOKS = dict.fromkeys(
    (
        "cross_entropy",
        "nll_loss",
        "binary_cross_entropy_with_logits",
        "binary_cross_entropy",
        "mse_loss",
        "l1_loss",
        "smooth_l1_loss",
        "huber_loss",
    ),
    note_best_constant,
)
