"""Summaries of several tensors in columns: how they are computed in one call, and how they are kept.

A row takes some hundred filled bins of 1,028, at six bytes each, and 28 to 36 bytes a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.stats.summary import FloatArray, IntArray, TensorSummary, UnitSummary, empty_histogram

NO_HISTOGRAM: IntArray = np.zeros((2, 0), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class SummaryTable:
    """One summary a row.

    `numbers`, float64 (rows, 4): sum, sum of squares, minimum, maximum. `counts`, int64 (rows, 4): elements, and of
    those non-finite, zero and outside the responsive interval. The filled bins of the flattened histogram of row k,
    uint16, and the elements in each lie from `starts[k]` to `starts[k + 1]` of `bins` and `filled`. The units of row k
    lie from `unit_starts[k]` to `unit_starts[k + 1]` of `unit_sums`, float64 (2, units) of values and squares,
    `unit_ends`, (2, units) of minima and maxima, and `unit_counts`, (3, units) of zeros, elements outside and
    non-finite ones; they have a meaning where `has_units[k]`.
    """

    numbers: FloatArray
    counts: IntArray
    starts: IntArray
    bins: npt.NDArray[np.uint16]
    filled: npt.NDArray[np.integer[Any]]
    has_units: npt.NDArray[np.bool_]
    unit_starts: IntArray
    unit_sums: FloatArray
    unit_ends: npt.NDArray[np.floating[Any]]
    unit_counts: npt.NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)

    def summary(self, row: int, *, histogram: bool = True) -> TensorSummary:
        """Return one row; without its histogram, which takes most of the time, if that is not wanted."""
        total, squares, minimum, maximum = self.numbers[row].tolist()
        count, nonfinite, zeros, outside = self.counts[row].tolist()
        counted = NO_HISTOGRAM
        if histogram:
            counted = empty_histogram()
            own = slice(self.starts[row], self.starts[row + 1])
            counted.reshape(-1)[self.bins[own]] = self.filled[own]
        units = self._units(row) if self.has_units[row] else None
        return TensorSummary(count, nonfinite, zeros, outside, total, squares, minimum, maximum, counted, units)

    def _units(self, row: int) -> UnitSummary:
        own = slice(self.unit_starts[row], self.unit_starts[row + 1])
        each = int(self.counts[row, 0]) // max(1, int(own.stop - own.start))
        sums, ends = self.unit_sums[:, own].copy(), self.unit_ends[:, own].astype(np.float64)  # keep no table alive
        zeros, outside, nonfinite = self.unit_counts[:, own].astype(np.int64)
        return UnitSummary(each, sums[0], sums[1], ends[0], ends[1], zeros, outside, nonfinite)

    @classmethod
    def of(cls, summaries: Sequence[TensorSummary]) -> SummaryTable:
        """Return summaries as a table."""
        filled = [np.flatnonzero(s.histogram) for s in summaries]
        counted = [s.histogram.reshape(-1)[bins] for s, bins in zip(summaries, filled, strict=True)]
        units = [s.units for s in summaries]
        kept = [u for u in units if u is not None]
        sums = [np.stack([u.total, u.squares]) for u in kept]
        ends = [np.stack([u.minimum, u.maximum]) for u in kept]
        counts = [np.stack([u.zeros, u.outside, u.nonfinite]) for u in kept]
        return cls(
            np.array([(s.total, s.squares, s.minimum, s.maximum) for s in summaries]).reshape(-1, 4),
            np.array([(s.count, s.nonfinite, s.zeros, s.outside) for s in summaries], dtype=np.int64).reshape(-1, 4),
            _starts([len(f) for f in filled]),
            np.concatenate([np.zeros(0, np.uint16), *filled]).astype(np.uint16),
            np.concatenate([np.zeros(0, np.int64), *counted]),
            np.array([u is not None for u in units], dtype=np.bool_),
            _starts([0 if u is None else len(u) for u in units]),
            np.concatenate([np.zeros((2, 0)), *sums], axis=1),
            np.concatenate([np.zeros((2, 0)), *ends], axis=1),
            np.concatenate([np.zeros((3, 0), np.int64), *counts], axis=1),
        )

    def take(self, rows: Sequence[int]) -> SummaryTable:
        """Return the named rows in that order; one may be named twice."""
        wanted = np.asarray(rows, dtype=np.int64)
        bins, starts = _ragged(self.starts, wanted)
        units, unit_starts = _ragged(self.unit_starts, wanted)
        return SummaryTable(
            self.numbers[wanted],
            self.counts[wanted],
            starts,
            self.bins[bins],
            self.filled[bins],
            self.has_units[wanted],
            unit_starts,
            self.unit_sums[:, units],
            self.unit_ends[:, units],
            self.unit_counts[:, units],
        )

    @np.errstate(over="ignore", invalid="ignore")  # sums of values near the largest float64 overflow
    def merged(self, first: int, end: int) -> SummaryTable:
        """Return a table of one row: rows `first` to `end` together, which must have the same units."""
        numbers, counts = self.numbers[first:end], self.counts[first:end]
        own, units = slice(self.starts[first], self.starts[end]), slice(self.unit_starts[first], self.unit_starts[end])
        histogram = np.bincount(self.bins[own], self.filled[own])  # in float64, exact up to 2^53
        bins = np.flatnonzero(histogram)
        each = (end - first, (units.stop - units.start) // (end - first))
        of_units = self.unit_sums, self.unit_ends, self.unit_counts
        sums, ends, counted = (a[:, units].reshape(len(a), *each) for a in of_units)
        return SummaryTable(
            np.array([[*numbers[:, :2].sum(0), numbers[:, 2].min(), numbers[:, 3].max()]]),
            counts.sum(0, keepdims=True),
            _starts([len(bins)]),
            bins.astype(np.uint16),
            histogram[bins].astype(np.int64),
            self.has_units[first : first + 1],
            _starts([each[1]]),
            sums.sum(1),
            np.stack([ends[0].min(0), ends[1].max(0)]),
            counted.sum(1, dtype=np.int64),
        )

    @classmethod
    def joined(cls, tables: Sequence[SummaryTable]) -> SummaryTable:
        """Return the rows of several tables (at least one), in order."""
        if len(tables) == 1:
            return tables[0]
        return cls(
            np.concatenate([t.numbers for t in tables]),
            np.concatenate([t.counts for t in tables]),
            _joined_starts([t.starts for t in tables]),
            np.concatenate([t.bins for t in tables]),
            np.concatenate([t.filled for t in tables]),
            np.concatenate([t.has_units for t in tables]),
            _joined_starts([t.unit_starts for t in tables]),
            np.concatenate([t.unit_sums for t in tables], axis=1),
            np.concatenate([t.unit_ends for t in tables], axis=1),
            np.concatenate([t.unit_counts for t in tables], axis=1),
        )


def _starts(lengths: Sequence[int]) -> IntArray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _joined_starts(parts: Sequence[IntArray]) -> IntArray:
    ends = np.cumsum([part[-1] for part in parts])
    return np.concatenate([parts[0], *(part[1:] + end for part, end in zip(parts[1:], ends, strict=False))])


def _ragged(starts: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the positions of all that lies in the named rows, and where each row begins among them."""
    lengths = starts[rows + 1] - starts[rows]
    begins = np.cumsum([0, *lengths], dtype=np.int64)
    return np.arange(begins[-1]) + np.repeat(starts[rows] - begins[:-1], lengths), begins
