"""Whether the last layer can say what the loss wants to hear: log-probabilities' mass, and an output's range."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

RANGES = {
    "relu": (0.0, math.inf),
    "clamp_min": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
    "logsigmoid": (-math.inf, 0.0),
    "log_sigmoid": (-math.inf, 0.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
"""Activation -> the range of its output."""
REGRESSIONS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
MASS_TOLERANCE = 1e-2
ROUNDINGS = 8  # of log-probabilities near -8 in a coarse dtype, in units of its eps
MARGIN = 0.01  # of the targets' standard deviation: beyond the range by less is rounding


def note_mass(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write what `nll_loss` is given: `mass`, the median row's sum of exp, and `mass_off`, the share of rows not at 1.

    Infinite where a row's sum is too large for a float.
    """
    x = call.input
    if site is None or not isinstance(x, Tensor) or not x.is_floating_point() or not x.numel():
        return
    rows = x.detach().float().logsumexp(1 if x.dim() > 1 else 0).exp().flatten()
    tolerance = max(MASS_TOLERANCE, ROUNDINGS * torch.finfo(x.dtype).eps)
    numbers = {"mass": float(rows.median()), "mass_off": float(((rows - 1).abs() > tolerance).double().mean())}
    _write(recorder, site, numbers)


def note_targets_beyond(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write `targets_beyond`: which share of a regression's targets lies outside the range of the output's function."""
    x, target = call.input, call.arg(1, "target")
    origin = recorder.origins.of(x)
    if site is None or origin is None or not origin.direct or not isinstance(target, Tensor):
        return
    sources = [recorder.trace.sites[i] for i in origin.sites]
    reach = next((RANGES[s.op] for s in sources if s.kind is Kind.ACTIVATION and s.op in RANGES), None)
    values = target.detach().double().flatten()
    values = values[values.isfinite()]
    if reach is None or not values.numel():
        return
    margin = MARGIN * float(values.std(correction=0))
    beyond = (values < reach[0] - margin) | (values > reach[1] + margin)
    _write(recorder, site, {"targets_beyond": float(beyond.double().mean())})


def _write(recorder: Recorder, site: Site, numbers: dict[str, float]) -> None:
    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


SELDOM = True
LOOKS = {"nll_loss": note_mass} | dict.fromkeys(REGRESSIONS, note_targets_beyond)
