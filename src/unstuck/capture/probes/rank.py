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
MAX_ROWS = 128  # of a batch: one or two milliseconds for their eigenvalues
MAX_UNITS = 256
ALIKE = 1e-6  # of the mean square: rows that differ by less are the same
INNER = "layers before another layer"


def note_rank(recorder: Recorder, call: TorchCall, out: Any, site: Site | None) -> None:
    """Write `rank`, the effective rank of what a last weight layer makes, and `rank_limit`, the most it can be."""
    if site is None or site.kind is not Kind.WEIGHT_LAYER or recorder.replayed is not None:
        return
    if not is_due(recorder.step) or not isinstance(out, Tensor) or out.dim() < 2 or not out.is_floating_point():
        return
    if site.index in _inner(recorder):
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


def _inner(recorder: Recorder) -> frozenset[int]:
    """Return the sites whose outputs reach a weight layer, as far as is known when a pass begins."""
    known: frozenset[int] | None = recorder.notes.get(INNER)
    if known is None:
        trace = recorder.trace
        producers: dict[int, list[int]] = {}
        for edge in trace.edges:
            producers.setdefault(edge.consumer, []).append(edge.producer)
        found: set[int] = set()
        frontier = [site.index for site in trace.sites if site.kind is Kind.WEIGHT_LAYER]
        while frontier:
            fresh = set(producers.get(frontier.pop(), ())) - found
            found |= fresh
            frontier.extend(fresh)
        known = recorder.notes[INNER] = frozenset(found)
    return known


def is_due(step: int) -> bool:
    """Tell whether ranks are taken at a step."""
    tens, rest = divmod(step, 10)
    return step in EARLY or (tens > 0 and rest == 0 and tens & (tens - 1) == 0)


def effective_rank(x: Tensor) -> float:
    """Return exp(entropy of the eigenvalues, as shares of their sum) of the covariance of rows, shape (rows, units).

    0 when all rows are the same. After Roy and Vetterli 2007, https://ieeexplore.ieee.org/document/7098875, who take
    the singular values of a matrix; here the matrix is the covariance.
    """
    size = float(x.square().mean())
    x = x - x.mean(0)
    if float(x.square().mean()) <= ALIKE * size:
        return 0.0
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    values = torch.linalg.eigvalsh(gram).clamp_min(0.0)
    return float(torch.special.entr(values / values.sum()).sum().exp())


LOOKS = dict.fromkeys((*functions.WEIGHT_OPS, *functions.MATMUL_OPS, "einsum"), note_rank)
