"""Layers that compute in float16: the number below which their gradients lose digits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

TINY = float(torch.finfo(torch.float16).tiny)  # bfloat16 has the range of float32


def note_precision(recorder: Recorder, _call: TorchCall, out: Any, site: Site | None) -> None:
    """Note `smallest_normal`, the least normal number of a layer's gradients, in units of the unscaled loss."""
    if site is None or site.kind is not Kind.WEIGHT_LAYER or not isinstance(out, Tensor):
        return
    if out.dtype == torch.float16 and out.requires_grad:

        def write(step: int) -> None:
            recorder.trace.add_scalar(step, site.index, "smallest_normal", TINY / recorder.loss_scale)

        recorder.later(write, site)


SELDOM = True
LOOKS = dict.fromkeys((*functions.WEIGHT_OPS, *functions.MATMUL_OPS, "einsum"), note_precision)
