"""How normalisation and dropout are set in training passes, and what batches look like to batch normalisation.

Scalars of a batch normalisation's site, each sampled step (of its latest call): `training`, `root_training` (whether
the outermost running module is in train mode), `samples`, `values_per_unit`, `collapsed_units` (the share of units
whose variance in the batch is below eps), `unit_std` (their median standard deviation), `eps`, and, where it keeps
running statistics, `momentum` and what `distance` tells of the batch and those before it. Of other norms: `group_size`.
Of dropout: `training`, `root_training`, `p`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

MAX_ELEMENTS = 1 << 22  # of a batch whose statistics are taken whole; of a larger one a part of the samples is
DEFAULT_P = 0.5
DEFAULT_EPS = 1e-5


class BatchNorm(NamedTuple):
    """What a call of batch normalisation was given."""

    x: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    training: bool
    momentum: float
    eps: float

    @classmethod
    def of(cls, call: TorchCall) -> BatchNorm | None:
        """Return the arguments of a call; None when its input is no batch."""
        first = 3 if call.func is torch.batch_norm else 1
        after = 5
        x, mean, var = call.input, call.arg(first, "running_mean"), call.arg(first + 1, "running_var")
        if not isinstance(x, Tensor) or x.dim() < 2 or not x.numel():
            return None
        momentum, eps = call.arg(after + 1, "momentum"), call.arg(after + 2, "eps")
        return cls(
            x.detach(),
            mean if isinstance(mean, Tensor) else None,
            var if isinstance(var, Tensor) else None,
            bool(call.arg(after, "training")),
            float(momentum) if isinstance(momentum, int | float) else 0.1,
            float(eps) if isinstance(eps, int | float) else DEFAULT_EPS,
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return each unit's mean and variance (over n, not n - 1) in the batch."""
        x = self.x
        if x.numel() > MAX_ELEMENTS:
            x = x[:: math.ceil(x.numel() / MAX_ELEMENTS)]
        dims = [dim for dim in range(x.dim()) if dim != 1]
        var, mean = torch.var_mean(x.float(), dims, correction=0)
        return mean, var

    def running_before(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the running mean and variance as they were before this batch, of those moments, entered them."""
        if self.running_mean is None or self.running_var is None:
            return None
        old_mean, old_var = self.running_mean.detach().float(), self.running_var.detach().float()
        if self.training:
            n, m = self.x.numel() / self.x.shape[1], self.momentum
            old_mean = (old_mean - m * mean) / (1 - m)
            old_var = ((old_var - m * var * (n / max(1.0, n - 1))) / (1 - m)).clamp(min=0.0)
        return old_mean, old_var


def distance(mean: Tensor, var: Tensor, running: tuple[Tensor, Tensor], eps: float) -> dict[str, float]:
    """Return how far moments are from running ones, medians over the units.

    `mean_shift` is in running standard deviations, `variance_ratio` at least 1, and `divergence` that of normal
    distributions of those moments, from the running one, in nats.
    """
    shift = (mean - running[0]) / (running[1] + eps).sqrt()
    ratio = (var + eps) / (running[1] + eps)
    divergence = 0.5 * (ratio - 1 - ratio.log() + shift.square())
    return {
        "mean_shift": float(shift.abs().median()),
        "variance_ratio": math.exp(min(float(ratio.log().abs().median()), 300.0)),
        "divergence": float(divergence.median()),
    }


def note_batch_norm(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Note what a batch is like beside a batch normalisation's running statistics."""
    norm = BatchNorm.of(call)
    if norm is None or site is None or site.kind is not Kind.NORM or recorder.replayed is not None:
        return
    mean, var = norm.moments()
    numbers = {
        "training": float(norm.training),
        "root_training": _root_training(recorder, norm.training),
        "samples": float(len(norm.x)),
        "values_per_unit": norm.x.numel() / norm.x.shape[1],
        "collapsed_units": float((var < norm.eps).float().mean()),
        "eps": norm.eps,
        "unit_std": float(var.median().sqrt()),
    }
    if norm.training and norm.momentum < 1 and (before := norm.running_before(mean, var)) is not None:
        numbers |= {**distance(mean, var, before, norm.eps), "momentum": norm.momentum}
    _write(recorder, site, numbers)


def note_group_norm(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Note over how many values a norm normalises."""
    x = call.input
    if not isinstance(x, Tensor) or site is None or site.kind is not Kind.NORM or recorder.replayed is not None:
        return
    size: float | None = None
    if call.op in ("layer_norm", "rms_norm"):
        shape = call.arg(1, "normalized_shape")
        size = float(math.prod(shape)) if isinstance(shape, list | tuple | torch.Size) else None
    elif call.op == "group_norm":
        groups = call.arg(1, "num_groups")
        size = x[0].numel() / groups if isinstance(groups, int) and groups and len(x) else None
    elif call.op == "instance_norm" and x.dim() > 2:
        size = float(math.prod(x.shape[2:]))
    if size is not None:
        _write(recorder, site, {"group_size": size})


def dropout_of(call: TorchCall) -> tuple[float, bool] | None:
    """Return the probability of a dropout's call (or of an attention's weights) and whether it is active."""
    if call.op in functions.ATTENTION_OPS:
        p = call.arg(4, "dropout_p") or 0.0
        return (float(p), p > 0) if isinstance(p, int | float) else None
    p, training = call.arg(1, "p"), call.arg(2, "training")
    training = call.kwargs.get("train", True) if training is None else training
    return float(DEFAULT_P if p is None else p), bool(training)


def note_dropout(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Note whether dropout was active."""
    found = dropout_of(call)
    if found is None or site is None or site.kind is not Kind.DROPOUT or recorder.replayed is not None:
        return
    p, training = found
    _write(recorder, site, {"p": p, "training": float(training), "root_training": _root_training(recorder, training)})


def _root_training(recorder: Recorder, otherwise: bool) -> float:
    """Return whether the outermost running module is in train mode; outside modules the call itself tells."""
    root = recorder.modules.outermost
    return float(otherwise if root is None else root.training)


def _write(recorder: Recorder, site: Site, numbers: dict[str, float]) -> None:
    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


SELDOM = True
LOOKS = {
    "batch_norm": note_batch_norm,
    **dict.fromkeys(("layer_norm", "rms_norm", "group_norm", "instance_norm"), note_group_norm),
    **dict.fromkeys(functions.DROPOUT_OPS, note_dropout),
}
