"""Over how many directions the outputs of a layer spread: taken a few times in a run, since it costs eigenvalues."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unstuck.capture import functions
from unstuck.capture.call import TorchCall
from unstuck.capture.recorder import Recorder
from unstuck.trace import Kind, Site

EARLY = (0, 5)  # steps at which ranks are taken; then at 10, 20, 40, …, which are sampled in every run
MIN_SIZE = 32  # units, and rows; of fewer no low rank can be told from a small layer
MAX_ROWS = 64  # of a batch: a quarter of a millisecond for their eigenvalues
MAX_UNITS = 256
ALIKE = 1e-6  # of the mean square: rows that differ by less are the same


def note_rank(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Write the scalars `rank`, the effective rank of what a weight layer makes, and `rank_limit`, the most it can."""
    if site is None or site.kind is not Kind.WEIGHT_LAYER or recorder.replayed is not None:
        return
    if not is_due(recorder.step) or not isinstance(out, Tensor) or out.dim() < 2 or not out.is_floating_point():
        return
    dims = functions.CONVOLUTIONS.get(call.op, 0)
    x = out.detach().movedim(-dims - 1, -1)
    if x.shape[-1] < MIN_SIZE or x.numel() < MIN_SIZE * x.shape[-1]:
        return
    x = x.flatten(0, -2)
    x = x[:: -(-len(x) // MAX_ROWS), :MAX_UNITS].double().cpu()
    if len(x) < MIN_SIZE or not bool(x.isfinite().all()):
        return
    numbers = {"rank": effective_rank(x), "rank_limit": float(min(x.shape))}

    def write(step: int) -> None:
        for name, value in numbers.items():
            recorder.trace.add_scalar(step, site.index, name, value)

    recorder.later(write, site)


def is_due(step: int) -> bool:
    """Tell whether ranks are taken at a step."""
    tens, rest = divmod(step, 10)
    return step in EARLY or (tens > 0 and rest == 0 and tens & (tens - 1) == 0)


def effective_rank(x: Tensor) -> float:
    """Return exp(entropy of the singular values, as shares of their sum) of centred rows, shape (rows, units).

    0 when all rows are the same. After Roy and Vetterli 2007, https://ieeexplore.ieee.org/document/7098875, used so by
    Garrido et al. 2023 (RankMe), https://arxiv.org/abs/2210.02885.
    """
    size = float(x.square().mean())
    x = x - x.mean(0)
    if float(x.square().mean()) <= ALIKE * size:
        return 0.0
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    singular = torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt()
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


LOOKS = dict.fromkeys((*functions.WEIGHT_OPS, *functions.MATMUL_OPS, "einsum"), note_rank)
