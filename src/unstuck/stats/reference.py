"""Summaries in plain torch and float64: the truth for tests, and the fallback where no faster kernel exists."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from unstuck.stats.summary import BINS, EDGES, TensorSummary, UnitSummary

_EDGES = torch.from_numpy(EDGES)


def summarise(x: Tensor, *, unit_dim: int | None = None, interval: tuple[float, float] | None = None) -> TensorSummary:
    """Summarise a tensor of any shape, floating dtype and device (integers are read as float64).

    `unit_dim` names the dimension whose entries are units; with it the summary carries a `UnitSummary`.
    `interval` is the responsive interval: elements below the first or above the second number count as outside.
    The tensor is only read; no gradient is recorded and no random number drawn.
    """
    values = x.detach().to(torch.float64)
    finite = torch.isfinite(values)
    if unit_dim is None or values.dim() == 0:
        return _of_rows(values.reshape(1, -1), finite.reshape(1, -1), interval, with_units=False)
    rows = values.movedim(unit_dim, 0)
    rows = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
    return _of_rows(rows, torch.isfinite(rows), interval, with_units=True)


@np.errstate(over="ignore", invalid="ignore")  # sums of values near the largest float64 overflow
def _of_rows(rows: Tensor, finite: Tensor, interval: tuple[float, float] | None, *, with_units: bool) -> TensorSummary:
    """Summarise `rows` of shape (units, elements)."""
    known = rows if bool(finite.all()) else torch.where(finite, rows, 0.0)
    zeros = ((rows == 0) & finite).sum(1)
    nonfinite = (~finite).sum(1)
    total, squares = known.sum(1), (known * known).sum(1)
    if interval is None:
        outside = torch.zeros_like(zeros)
    else:
        outside = (((rows < interval[0]) | (rows > interval[1])) & finite).sum(1)
    if rows.numel():
        minimum = torch.where(finite, rows, torch.inf).amin(1)
        maximum = torch.where(finite, rows, -torch.inf).amax(1)
    else:
        minimum = rows.new_full((rows.shape[0],), torch.inf)
        maximum = -minimum
    units = UnitSummary(
        rows.shape[1] if rows.shape[0] else 0,
        _float(total),
        _float(squares),
        _float(minimum),
        _float(maximum),
        _int(zeros),
        _int(outside),
        _int(nonfinite),
    )
    return TensorSummary(
        rows.numel(),
        int(units.nonfinite.sum()),
        int(units.zeros.sum()),
        int(units.outside.sum()),
        float(units.total.sum()),
        float(units.squares.sum()),
        float(units.minimum.min(initial=np.inf)),
        float(units.maximum.max(initial=-np.inf)),
        _histogram(rows[finite]),
        units if with_units else None,
    )


def _histogram(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Count finite `values` (1-D, float64) into the bins."""
    values = values[values != 0]
    edges = _EDGES.to(values.device)
    bins = torch.bucketize(values.abs(), edges, right=True) + (values > 0) * BINS
    return _int(torch.bincount(bins, minlength=2 * BINS)).reshape(2, BINS)


def has_elements(x: Tensor) -> bool:
    """Tell whether a tensor is an array of elements, as a sparse or nested one is not."""
    return x.layout is torch.strided and not x.is_nested


def identical_units(x: Tensor, unit_dim: int) -> int:
    """Return how many units (slices along `unit_dim`) are element for element equal to another unit.

    None of a sparse or nested tensor are: that cannot be told.
    """
    if not has_elements(x):
        return 0
    rows = x.detach().movedim(unit_dim, 0)
    rows = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
    if rows.shape[0] < 2 or rows.shape[1] == 0:
        return 0
    _, counts = torch.unique(rows, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


def _float(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(x.cpu().numpy(), dtype=np.float64)


def _int(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(x.cpu().numpy(), dtype=np.int64)
