"""Summaries of CPU tensors in one pass, compiled by numba and cached on disk.

A tensor is read as (outer, unit, inner); any dense tensor where it lies, any other is copied once (`COPIED` counts).
bfloat16 and float16 are decoded to float32 chunk by chunk. Sums run in float64. The results equal those of
`reference.py`: counts, extremes and histogram exactly, sums to rounding. Many tensors make one call, and many elements
are shared out among as many threads as torch has (`torch.get_num_threads`).
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.stats import passes
from unstuck.stats.layout import Shape, laid_out
from unstuck.stats.summary import BINS, TensorSummary
from unstuck.stats.table import SummaryTable

Array = npt.NDArray[Any]
Interval = tuple[float, float] | None

PARALLEL_FROM = 1 << 18  # elements; below it, waking a thread costs more than it gains
LONGEST = 1 << 30  # elements read at a time: the counters have 32 bits
COPIED: list[int] = []
"""Sizes, in elements, of the tensors that had to be copied because they were not dense."""


class _Kind(NamedTuple):
    """A dtype: the numpy types to read and to compute in, and the bytes of an element."""

    read: Any
    compute: Any
    itemsize: int


SUPPORTED = {
    torch.float32: _Kind(np.float32, np.float32, 4),
    torch.float64: _Kind(np.float64, np.float64, 8),
    torch.bfloat16: _Kind(np.uint16, np.float32, 2),
    torch.float16: _Kind(np.int16, np.float32, 2),
}


def summarise(x: Tensor, *, unit_dim: int | None = None, interval: Interval = None) -> TensorSummary:
    """Summarise a CPU tensor of a dtype in `SUPPORTED`; arguments and result as `reference.summarise`.

    Raises KeyError for another dtype.
    """
    jobs = Jobs(x.dtype)
    address, shape, keep = layout_of(x, unit_dim)
    jobs.add(address, shape, interval, with_units=unit_dim is not None and x.dim() > 0)
    table = jobs.summaries()
    del keep
    return table.summary(0)


def layout_of(x: Tensor, unit_dim: int | None) -> tuple[int, Shape, Tensor]:
    """Return where the elements of a CPU tensor lie, how to read them, and the tensor that owns the memory."""
    if x.is_contiguous() and not x.is_neg():
        if unit_dim is None or not x.dim():
            return x.data_ptr(), (1, 1, x.numel()), x
        sizes = x.shape
        at = range(len(sizes))[unit_dim]
        return x.data_ptr(), (math.prod(sizes[:at]), sizes[at], math.prod(sizes[at + 1 :])), x
    flat, shape, copied = laid_out(x, unit_dim)
    if copied:
        COPIED.append(x.numel())
    return flat.data_ptr(), shape, flat


class Jobs:
    """Tensors of one dtype to be summarised by one call; their memory must stay as it is until then.

    Raises KeyError for a dtype that is not in `SUPPORTED`.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.kind = SUPPORTED[dtype]
        self._rows = array("q")
        self._limits = array("d")
        self._with_units: list[bool] = []
        self._elements = 0

    def __len__(self) -> int:
        return len(self._with_units)

    def add(
        self,
        address: int,
        shape: Shape,
        interval: Interval = None,
        *,
        with_units: bool = False,
        stride: int = 1,
        minus: int = 0,
    ) -> None:
        """Add (outer, units, inner) elements at `address`, `stride` elements apart, less those at `minus` if any."""
        self._rows.extend((address, *shape, stride, minus, 0))
        self._limits.extend(_limits_in(self.kind, interval))
        self._with_units.append(with_units)
        self._elements += shape[0] * shape[1] * shape[2]

    def refine(self, job: int, shape: Shape, interval: Interval, *, with_units: bool) -> None:
        """Have job number `job` tell of units and of an interval as well; its elements stay where they are."""
        begin = job * passes.COLUMNS
        self._rows[begin + passes.OUTER : begin + passes.INNER + 1] = array("q", shape)
        self._limits[2 * job : 2 * job + 2] = array("d", _limits_in(self.kind, interval))
        self._with_units[job] = with_units

    def summaries(self, wanted: Sequence[int] | None = None) -> SummaryTable:
        """Summarise the jobs with these numbers (all of them when `wanted` is None), in that order."""
        rows = np.frombuffer(self._rows, dtype=np.int64).reshape(-1, passes.COLUMNS)
        limits = np.frombuffer(self._limits).reshape(-1, 2).astype(self.kind.compute)
        with_units = np.array(self._with_units, dtype=np.bool_)
        if wanted is not None:
            rows, limits, with_units = rows[wanted], limits[wanted], with_units[wanted]
        threads = min(torch.get_num_threads(), self._elements // PARALLEL_FROM)
        if threads < 2 and self._elements <= LONGEST:
            return _summarised(self.kind, rows, limits, with_units)
        return _shared_out(self.kind, rows, limits, with_units, max(1, threads))


@cache
def _limits_in(kind: _Kind, interval: Interval) -> tuple[float, float]:
    """Return the least number of the computing type not below the lower limit, the greatest not above the upper one.

    Numbers of that type are outside the one pair exactly when they are outside the other.
    """
    if interval is None:
        return -math.inf, math.inf
    compute = kind.compute
    lower, upper = compute(interval[0]), compute(interval[1])
    if lower < interval[0]:
        lower = np.nextafter(lower, compute(np.inf))
    if upper > interval[1]:
        upper = np.nextafter(upper, compute(-np.inf))
    return float(lower), float(upper)


def _summarised(kind: _Kind, rows: Array, limits: Array, with_units: Array) -> SummaryTable:
    """Make the pass over the tensors of a table, in this thread."""
    n = len(rows)
    unit_starts = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(rows[:, passes.UNITS], out=unit_starts[1:])
    rows = np.ascontiguousarray(rows)
    rows[:, passes.UNITS_AT] = unit_starts[:-1]
    units = int(unit_starts[-1])
    numbers, counts, starts = np.empty((n, 4)), np.empty((n, 4), np.int64), np.empty(n + 1, np.int64)
    room = n * 2 * BINS
    bins, filled = np.empty(room, np.uint16), np.empty(room, np.int32)
    sums, ends, counted = np.empty((2, units)), np.empty((2, units), kind.compute), np.empty((3, units), np.int32)
    like = np.empty(0, kind.read)
    passes.summarise_table(like, rows, limits, numbers, counts, starts, bins, filled, sums, ends, counted)
    used = int(starts[-1])
    return SummaryTable(
        numbers, counts, starts, bins[:used].copy(), filled[:used].copy(), with_units, unit_starts, sums, ends, counted
    )


# -- sharing out -------------------------------------------------------------------------------------------------------


def _shared_out(kind: _Kind, rows: Array, limits: Array, with_units: Array, threads: int) -> SummaryTable:
    """Make the pass with several threads: large tensors are cut, and each thread takes about as many elements."""
    sizes = rows[:, passes.OUTER] * rows[:, passes.UNITS] * rows[:, passes.INNER]
    longest = min(LONGEST, max(PARALLEL_FROM // 2, -(-int(sizes.sum()) // threads)))
    pieces, owners = [], []
    for k, row in enumerate(rows):
        own = [row] if sizes[k] <= longest else list(_cut(row, longest, kind.itemsize))
        pieces += own
        owners += [k] * len(own)
    table, owner = np.array(pieces), np.array(owners)
    ends = np.cumsum(table[:, passes.OUTER] * table[:, passes.UNITS] * table[:, passes.INNER])
    cuts = [0, *np.searchsorted(ends, ends[-1] * np.arange(1, threads) / threads, side="left") + 1, len(table)]
    spans = [slice(a, b) for a, b in pairwise(cuts) if a < b]
    work = [(kind, table[span], limits[owner[span]], with_units[owner[span]]) for span in spans]
    others = [_pool().submit(_summarised, *args) for args in work[1:]]
    parts = [_summarised(*work[0]), *(other.result() for other in others)]
    return _put_together(SummaryTable.joined(parts), owner) if len(table) > len(rows) else SummaryTable.joined(parts)


def _cut(row: Array, longest: int, itemsize: int) -> Iterable[Array]:
    """Cut a tensor along `outer`, or (without units) anywhere; a single row of units is left whole."""
    outer, units, inner, stride = (int(row[c]) for c in (passes.OUTER, passes.UNITS, passes.INNER, passes.STRIDE))
    whole = units == 1 and outer == 1
    length, each = (inner, 1) if whole else (outer, units * inner)
    step = max(1, longest // max(1, each))
    for begin in range(0, length, step):
        piece = row.copy()
        piece[passes.INNER if whole else passes.OUTER] = min(step, length - begin)
        piece[passes.ADDRESS] += begin * each * stride * itemsize
        if piece[passes.MINUS]:
            piece[passes.MINUS] += begin * each * itemsize
        yield piece


def _put_together(pieces: SummaryTable, owner: Array) -> SummaryTable:
    """Merge the neighbouring rows that belong to one tensor."""
    firsts = np.flatnonzero(np.diff(owner, prepend=-1)).tolist()
    tables = []
    for first, end in zip(firsts, [*firsts[1:], len(owner)], strict=True):
        summary = pieces.summary(first)
        for row in range(first + 1, end):
            summary = summary.merge(pieces.summary(row))
        tables.append(summary)
    return SummaryTable.of(tables)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="unstuck-stats")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def load() -> None:
    """Compile the pass for float32, or load it from the cache on disk."""
    summarise(torch.zeros(1))
