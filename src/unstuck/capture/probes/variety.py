"""How many different rows the data holds: of ten inputs seen a hundred times each, ten things can be learned."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from unstuck.capture.call import TorchCall
from unstuck.capture.probes.data import LAYER_OPS, data_of
from unstuck.capture.recorder import Recorder
from unstuck.capture.wrappers import local
from unstuck.trace import Site

MAX_ROWS = 64  # of a batch, which get a mark
MAX_FEATURES = 1024  # of a row, evenly spread, that its mark is made from


def note_rows(recorder: Recorder, call: TorchCall, _out: Any, site: Site | None) -> None:
    """Write the vector `row_marks`: a number for each of the first rows of the data that a layer is fed."""
    x = data_of(recorder, call, site)
    if x is None or site is None:
        return
    x = local(x.detach())
    odd = x.is_meta or x.layout is not torch.strided or x.is_quantized or x.is_complex()
    if odd or x.dim() == 0 or not x.numel():
        return
    known = marks(x)
    recorder.later(lambda step: recorder.trace.add_vector(step, site.index, "row_marks", known.numpy()), site)


def marks(x: Tensor) -> Tensor:
    """Return a number for each row, float32 of shape (rows,): equal rows have equal ones, others hardly ever.

    It is a weighted sum in float64, rounded, so that the order in which it is added up makes no difference.
    """
    rows = x[:MAX_ROWS].flatten(1) if x.dim() > 1 else x[:MAX_ROWS, None]
    rows = rows[:, :: -(-rows.shape[1] // MAX_FEATURES)].double().cpu()
    return (rows @ _weights(rows.shape[1])).float()


@cache
def _weights(features: int) -> Tensor:
    """Return weights that are as good as random and no generator's."""
    return torch.cos(torch.arange(1, features + 1, dtype=torch.float64).square() * 0.7)


SELDOM = True
LOOKS = dict.fromkeys(LAYER_OPS, note_rows)
