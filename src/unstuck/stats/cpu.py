"""Summaries of CPU tensors in one pass, compiled by numba and cached on disk.

A tensor is read as (outer, unit, inner); any dense tensor where it lies, any other is copied once (`COPIED` counts).
bfloat16 and float16 are decoded to float32 chunk by chunk. Sums run in float64. The results equal those of
`reference.py`: counts, extremes and histogram exactly, sums to rounding. Many tensors make one call, and many elements
are shared out among as many threads as torch has (`torch.get_num_threads`).
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.stats import columns, team
from unstuck.stats.layout import Shape, laid_out
from unstuck.stats.summary import BINS, TensorSummary
from unstuck.stats.table import SummaryTable

Array = npt.NDArray[Any]
Interval = tuple[float, float] | None

PARALLEL_FROM = 1 << 18  # elements for each thread; with fewer, sharing out costs more than it gains
EVERYWHERE = (-math.inf, math.inf)
LEAST = 5e-324  # equals zero where `torch.set_flush_denormal(True)` was called
LONGEST = 1 << 30  # elements read at a time: the counters have 32 bits
COPIED: Counter[str] = Counter()
"""How many tensors ("tensors"), and how many elements in all ("elements"), were copied since they were not dense."""


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
    return tabulate(x, unit_dim, interval).summary(0)


def tabulate(x: Tensor, unit_dim: int | None, interval: Interval) -> SummaryTable:
    """Summarise a tensor as `summarise` does, as a table of one row."""
    jobs = Jobs(x.dtype)
    address, shape, keep = layout_of(x, unit_dim)
    jobs.add(address, shape, interval, with_units=unit_dim is not None and x.dim() > 0)
    table = jobs.summaries()
    del keep
    return table


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
        COPIED.update(tensors=1, elements=x.numel())
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
        with_units: bool = False,
        stride: int = 1,
        minus: int = 0,
    ) -> int:
        """Add (outer, units, inner) elements at `address`, `stride` elements apart, less those at `minus` if any.

        Returns the job's number.
        """
        outer, units, inner = shape
        self._rows.extend((address, outer, units, inner, stride, minus, 0))
        self._limits.extend(limits_in(self.kind.compute, interval))
        self._with_units.append(with_units)
        self._elements += outer * units * inner
        return len(self._with_units) - 1

    def refine(self, job: int, shape: Shape, interval: Interval, *, with_units: bool) -> bool:
        """Have job number `job` tell of units and of an interval as well; its elements stay where they are.

        Returns False when it does so already.
        """
        if self._with_units[job] or tuple(self._limits[2 * job : 2 * job + 2]) != EVERYWHERE:
            return False
        begin = job * columns.COLUMNS
        self._rows[begin + columns.OUTER : begin + columns.INNER + 1] = array("q", shape)
        self._limits[2 * job : 2 * job + 2] = array("d", limits_in(self.kind.compute, interval))
        self._with_units[job] = with_units
        return True

    def summaries(self, wanted: Sequence[int] | None = None) -> SummaryTable:
        """Summarise the jobs with these numbers (all of them when `wanted` is None), in that order."""
        if LEAST != 0.0:
            return self._summaries(wanted, torch.get_num_threads())
        torch.set_flush_denormal(False)  # subnormal numbers are no zeros
        try:
            return self._summaries(wanted, 1)  # other threads have settings of their own
        finally:
            torch.set_flush_denormal(True)

    def _summaries(self, wanted: Sequence[int] | None, threads: int) -> SummaryTable:
        rows = np.frombuffer(self._rows, dtype=np.int64).reshape(-1, columns.COLUMNS)
        limits = np.frombuffer(self._limits).reshape(-1, 2).astype(self.kind.compute)
        with_units = np.array(self._with_units, dtype=np.bool_)
        if wanted is not None:
            rows, limits, with_units = rows[wanted], limits[wanted], with_units[wanted]
        elements = self._elements if wanted is None else int(rows[:, columns.OUTER : columns.INNER + 1].prod(1).sum())
        threads = min(threads, elements // PARALLEL_FROM)
        if threads < 2 and elements <= LONGEST:
            return _Pass(self.kind, rows, limits, with_units).run()
        return _shared_out(self.kind, rows, limits, with_units, max(1, threads))


@cache
@np.errstate(over="ignore")  # limits beyond the type's range
def limits_in(compute: Any, interval: Interval) -> tuple[float, float]:
    """Return the least number of a numpy type not below the lower limit, and the greatest not above the upper one.

    Numbers of that type are outside the one pair exactly when they are outside the other.
    """
    if interval is None:
        return EVERYWHERE
    lower, upper = compute(interval[0]), compute(interval[1])
    if float(lower) < interval[0]:
        lower = np.nextafter(lower, compute(np.inf))
    if float(upper) > interval[1]:
        upper = np.nextafter(upper, compute(-np.inf))
    return float(lower), float(upper)


class _Pass:
    """The arrays of a pass over the rows of a table of tensors."""

    def __init__(self, kind: _Kind, rows: Array, limits: Array, with_units: Array) -> None:
        n = len(rows)
        self.kind, self.with_units = kind, with_units
        self.unit_starts = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(rows[:, columns.UNITS], out=self.unit_starts[1:])
        rows = np.ascontiguousarray(rows)
        rows[:, columns.UNITS_AT] = self.unit_starts[:-1]
        self.units = int(self.unit_starts[-1])
        self.arrays = (
            rows,
            np.ascontiguousarray(limits),
            np.empty((n, 4)),
            np.empty((n, 4), np.int64),
            np.empty((n, 2), np.int64),
            np.empty(n * 2 * BINS, np.uint16),
            np.empty(n * 2 * BINS, np.int32),
            np.empty((2, self.units)),
            np.empty((2, self.units), kind.compute),
            np.empty((3, self.units), np.int32),
        )

    def run(self) -> SummaryTable:
        """Make the pass in this thread."""
        from unstuck.stats import passes  # numba takes a third of a second to load

        n = len(self.with_units)
        with _first_use("table", self.kind.read):
            passes.summarise_table(np.empty(0, self.kind.read), 0, n, *self.arrays)
        return self._table([0, n])

    def run_in_parts(self, bounds: list[int], threads: int) -> SummaryTable:
        """Make the pass with several threads; each part begins at one of the bounds and ends at the next."""
        from unstuck.stats import passes

        addresses = [a.__array_interface__["data"][0] for a in self.arrays]
        head = [0, len(bounds) - 1, len(self.with_units), self.units]
        data = array("q", [*head, *addresses, *bounds])
        with _first_use("worker", self.kind.read):
            worker = passes.worker(self.kind.read)
        team.run(worker, data.buffer_info()[0], threads)
        return self._table(bounds)

    def _table(self, bounds: list[int]) -> SummaryTable:
        _, _, numbers, counts, spans, bins, filled, sums, ends, counted = self.arrays
        starts = np.zeros(len(spans) + 1, dtype=np.int64)
        np.cumsum(spans[:, 1] - spans[:, 0], out=starts[1:])
        used = [slice(2 * BINS * a, int(spans[b - 1, 1])) for a, b in pairwise(bounds) if a < b]
        if len(used) == 1:
            bins, filled = bins[used[0]].copy(), filled[used[0]].copy()
        else:
            bins, filled = (np.concatenate([a[:0], *(a[own] for own in used)]) for a in (bins, filled))
        return SummaryTable(
            numbers, counts, starts, bins, filled, self.with_units, self.unit_starts, sums, ends, counted
        )


# -- sharing out -------------------------------------------------------------------------------------------------------


def _shared_out(kind: _Kind, rows: Array, limits: Array, with_units: Array, threads: int) -> SummaryTable:
    """Make the pass with several threads: large tensors are cut, and each thread takes about as many elements."""
    sizes = rows[:, columns.OUTER] * rows[:, columns.UNITS] * rows[:, columns.INNER]
    longest = min(LONGEST, max(PARALLEL_FROM, -(-int(sizes.sum()) // threads)))
    owner = np.arange(len(rows))
    if sizes.max() > longest:
        cut = [
            [row] if size <= longest else list(_cut(row, longest, kind.itemsize))
            for row, size in zip(rows, sizes, strict=True)
        ]
        owner = np.repeat(owner, [len(pieces) for pieces in cut])
        rows = np.array([piece for pieces in cut for piece in pieces])
        sizes, limits, with_units = (
            rows[:, columns.OUTER] * rows[:, columns.UNITS] * rows[:, columns.INNER],
            limits[owner],
            with_units[owner],
        )
    ends = np.cumsum(sizes)
    wanted = ends[-1] * np.arange(1, threads) / threads
    bounds = [0, *(np.searchsorted(ends, wanted) + 1).clip(max=len(rows)).tolist(), len(rows)]
    table = _Pass(kind, rows, limits, with_units).run_in_parts(bounds, threads)
    return table if owner[-1] == len(rows) - 1 else _put_together(table, owner)


def _cut(row: Array, longest: int, itemsize: int) -> Iterable[Array]:
    """Cut a tensor along `outer`, or (without units) anywhere; a single row of units is left whole."""
    outer, units, inner, stride = (int(row[c]) for c in (columns.OUTER, columns.UNITS, columns.INNER, columns.STRIDE))
    whole = units == 1 and outer == 1
    length, each = (inner, 1) if whole else (outer, units * inner)
    step = max(1, longest // max(1, each))
    for begin in range(0, length, step):
        piece = row.copy()
        piece[columns.INNER if whole else columns.OUTER] = min(step, length - begin)
        piece[columns.ADDRESS] += begin * each * stride * itemsize
        if piece[columns.MINUS]:
            piece[columns.MINUS] += begin * each * itemsize
        yield piece


def _put_together(pieces: SummaryTable, owner: Array) -> SummaryTable:
    """Merge the neighbouring rows that belong to one tensor."""
    firsts = np.flatnonzero(np.diff(owner, prepend=-1)).tolist()
    spans = zip(firsts, [*firsts[1:], len(owner)], strict=True)
    return SummaryTable.joined([pieces.merged(first, end) for first, end in spans])


_used: set[tuple[str, Any]] = set()
_loading_seconds = [0.0]


@contextmanager
def _first_use(what: str, read: Any) -> Iterator[None]:
    """Enter the time as loading when a pass is used for the first time: numba compiles it, or fetches it from disk."""
    if (what, read) in _used:
        yield
        return
    begun = perf_counter()
    yield
    _used.add((what, read))
    _loading_seconds[0] += perf_counter() - begun


def loading_seconds() -> float:
    """Return how long this process has spent on compiling passes, or on loading compiled ones."""
    return _loading_seconds[0]


def load() -> None:
    """Compile the pass for float32, or load it from the cache on disk."""
    from unstuck.stats import passes

    summarise(torch.zeros(1))
    if torch.get_num_threads() > 1:
        passes.worker(np.float32)
