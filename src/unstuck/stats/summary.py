"""The fixed-size summary of a tensor, and how summaries merge.

Every field merges by addition, minimum or maximum, so summaries of batches, steps and ranks can be combined in any
order. Each octave of the histogram has eight bins of equal width, the layout of an HDR histogram
(https://hdrhistogram.github.io/HdrHistogram/): quantiles stay within a relative error of 1/16 at any scale, every edge
is exact in every floating dtype of torch, and the bin of a value is its sign, exponent and first three mantissa bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

OCTAVES = 32
BINS_PER_OCTAVE = 8
EDGES: FloatArray = np.append(
    np.outer(np.exp2(np.arange(-OCTAVES, OCTAVES)), 1.0 + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE).ravel(),
    2.0**OCTAVES,
)
"""Edges for |x|, shape (513,): bin k of a sign holds EDGES[k-1] <= |x| < EDGES[k]; bin 0 lies below, 513 above."""
BINS = len(EDGES) + 1


def empty_histogram() -> IntArray:
    """Return a zeroed histogram, int64 of shape (2, 514): row 0 counts negative values, row 1 positive ones.

    Zeros and non-finite values are in neither row; they have counters of their own.
    """
    return np.zeros((2, BINS), dtype=np.int64)


@dataclass(frozen=True)
class UnitSummary:
    """The same facts for each unit (feature or channel) apart; every array has shape (units,).

    `count` is the number of elements of one unit, finite or not.
    """

    count: int
    total: FloatArray
    squares: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    zeros: IntArray
    outside: IntArray
    nonfinite: IntArray

    def __len__(self) -> int:
        return len(self.total)

    @property
    def saturated(self) -> npt.NDArray[np.bool_]:
        """Which units had every element outside the responsive interval, bool of shape (units,)."""
        return np.asarray((self.outside == self.count) & (self.count > 0), dtype=np.bool_)

    @property
    def variance(self) -> FloatArray:
        """Population variance over the finite elements of each unit, shape (units,); NaN where there are none."""
        n = self.count - self.nonfinite
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            variance: FloatArray = np.maximum(self.squares / n - (self.total / n) ** 2, 0.0)
        return variance

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists for `json.dumps`; None for the extremes of a unit without finite elements."""
        return {
            "count": self.count,
            "total": self.total.tolist(),
            "squares": self.squares.tolist(),
            "minimum": [x if math.isfinite(x) else None for x in self.minimum.tolist()],
            "maximum": [x if math.isfinite(x) else None for x in self.maximum.tolist()],
            "zeros": self.zeros.tolist(),
            "outside": self.outside.tolist(),
            "nonfinite": self.nonfinite.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UnitSummary:
        """Rebuild what `to_json` wrote."""
        return cls(
            data["count"],
            np.array(data["total"], dtype=np.float64),
            np.array(data["squares"], dtype=np.float64),
            np.array([math.inf if x is None else x for x in data["minimum"]], dtype=np.float64),
            np.array([-math.inf if x is None else x for x in data["maximum"]], dtype=np.float64),
            *(np.array(data[name], dtype=np.int64) for name in ("zeros", "outside", "nonfinite")),
        )

    @np.errstate(over="ignore", invalid="ignore")
    def merge(self, other: UnitSummary) -> UnitSummary:
        """Return the summary of both; raises ValueError when the numbers of units differ."""
        if len(self) != len(other):
            raise ValueError(f"cannot merge summaries of {len(self)} and {len(other)} units")
        return UnitSummary(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
            self.zeros + other.zeros,
            self.outside + other.outside,
            self.nonfinite + other.nonfinite,
        )


@dataclass(frozen=True)
class TensorSummary:
    """What is known of one tensor (or of many merged).

    `count` counts all elements; `total`, `squares`, `minimum`, `maximum`, `zeros` and `outside` (elements outside the
    responsive interval) speak of the finite ones; minimum and maximum are +inf and -inf when there are none.
    """

    count: int
    nonfinite: int
    zeros: int
    outside: int
    total: float
    squares: float
    minimum: float
    maximum: float
    histogram: IntArray
    units: UnitSummary | None = None

    @classmethod
    def empty(cls) -> TensorSummary:
        """Return the summary of no elements: the neutral element of `merge`."""
        return cls(0, 0, 0, 0, 0.0, 0.0, math.inf, -math.inf, empty_histogram())

    @property
    def finite(self) -> int:
        """Number of finite elements."""
        return self.count - self.nonfinite

    @property
    def mean(self) -> float:
        """Mean of the finite elements; NaN when there are none."""
        return self.total / self.finite if self.finite else math.nan

    @property
    def std(self) -> float:
        """Population standard deviation of the finite elements; NaN when there are none."""
        if not self.finite:
            return math.nan
        mean = self.mean
        return math.sqrt(max(self.squares / self.finite - mean * mean, 0.0))  # where it overflows, `mean**2` raises

    @property
    def rms(self) -> float:
        """Root mean square of the finite elements; NaN when there are none."""
        return math.sqrt(self.squares / self.finite) if self.finite else math.nan

    @property
    def norm(self) -> float:
        """Euclidean norm of the finite elements."""
        return math.sqrt(self.squares)

    @property
    def outside_fraction(self) -> float:
        """Fraction of the finite elements outside the responsive interval; NaN when there are none."""
        return self.outside / self.finite if self.finite else math.nan

    @property
    def zero_fraction(self) -> float:
        """Fraction of the finite elements that are exactly zero; NaN when there are none."""
        return self.zeros / self.finite if self.finite else math.nan

    def merge(self, other: TensorSummary) -> TensorSummary:
        """Return the summary of both together. Units are kept when both have the same number of them."""
        return TensorSummary(
            self.count + other.count,
            self.nonfinite + other.nonfinite,
            self.zeros + other.zeros,
            self.outside + other.outside,
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.histogram + other.histogram,
            self._merged_units(other),
        )

    def _merged_units(self, other: TensorSummary) -> UnitSummary | None:
        if self.units is None and self.count == 0:
            return other.units
        if other.units is None and other.count == 0:
            return self.units
        if self.units is None or other.units is None or len(self.units) != len(other.units):
            return None
        return self.units.merge(other.units)

    def quantile(self, q: float) -> float:
        """Return the q-quantile (0 <= q <= 1) of the finite values within a relative error of 1/16.

        Values in the underflow bins count as 0, those in the overflow bins as the minimum or maximum.
        Raises ValueError for q outside [0, 1] or when there are no finite values.
        """
        if not 0 <= q <= 1 or not self.finite:
            raise ValueError(f"a quantile needs 0 <= q <= 1 and finite values, got q={q} of {self.finite} values")
        middles = np.concatenate([[0.0], (EDGES[:-1] + EDGES[1:]) / 2, [math.inf]])
        values = np.concatenate([-middles[:0:-1], [0.0], middles[1:]])
        negative, positive = self.histogram
        middle = negative[0] + self.zeros + positive[0]
        counts = np.concatenate([negative[:0:-1], [middle], positive[1:]])
        rank = int(np.searchsorted(np.cumsum(counts), max(1, math.ceil(q * self.finite))))
        return float(np.clip(values[rank], self.minimum, self.maximum))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers for `json.dumps`; the histogram as [[bin, count], …] of its filled bins, flat."""
        filled = np.flatnonzero(self.histogram)
        return {
            "count": self.count,
            "nonfinite": self.nonfinite,
            "zeros": self.zeros,
            "outside": self.outside,
            "total": self.total,
            "squares": self.squares,
            "minimum": self.minimum if self.finite else None,
            "maximum": self.maximum if self.finite else None,
            "histogram": [[int(k), int(self.histogram.flat[k])] for k in filled],
            "units": None if self.units is None else self.units.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSummary:
        """Rebuild what `to_json` wrote."""
        histogram = empty_histogram()
        for k, n in data["histogram"]:
            histogram.flat[k] = n
        return cls(
            data["count"],
            data["nonfinite"],
            data["zeros"],
            data["outside"],
            data["total"],
            data["squares"],
            math.inf if data["minimum"] is None else data["minimum"],
            -math.inf if data["maximum"] is None else data["maximum"],
            histogram,
            None if data["units"] is None else UnitSummary.from_json(data["units"]),
        )
