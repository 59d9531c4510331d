"""Summaries of CPU tensors in one pass, compiled by numba (https://numba.readthedocs.io) and cached on disk.

A tensor is read as (outer, unit, inner): features-last is (rows, features, 1), channels-first (batch, channels,
positions). Any dense tensor is read where it lies, by ordering its dimensions as they stand in memory; any other is
copied once. bfloat16 and float16 are decoded to float32 block by block, in cache. Sums run in float64.
The results equal those of `reference.py`: counts, extremes and histogram exactly, sums to rounding.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.stats.summary import BINS, BINS_PER_OCTAVE, OCTAVES, WITHIN_OCTAVE, TensorSummary, UnitSummary

Array = npt.NDArray[Any]

PARALLEL_FROM = 1 << 18  # elements; below it, starting threads costs more than it gains
BLOCK = 4096  # elements decoded at a time
COPIES = 4  # of the histogram, so that neighbouring equal values do not wait for one another
STRIDE = 2 * BINS + 4  # one copy of the histogram; the last places take what belongs in no bin
NOWHERE = 2 * BINS
COPIED: list[int] = []
"""Sizes, in elements, of the tensors that had to be copied because they were not dense."""
SUPPORTED = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})


def _tables(mantissa_bits: int) -> tuple[Array, Array]:
    """Return, for the top 8 mantissa bits, the bin they begin in; and the mantissa at which each bin of [1, 2) ends.

    A value is at or above an edge when its mantissa is at or above the edge's, rounded up to the type's precision.
    """
    scale = 2.0**mantissa_bits
    ends = np.array([math.ceil((edge - 1.0) * scale) for edge in [*WITHIN_OCTAVE[1:], 2.0]], dtype=np.int64)
    begins = np.arange(256, dtype=np.int64) << (mantissa_bits - 8)
    return np.searchsorted(ends, begins, side="right").astype(np.int64), ends


CELLS32, ENDS32 = _tables(23)
CELLS64, ENDS64 = _tables(52)

_jit = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})


@_jit
def _count32(bits: Array, begin: int, end: int, histogram: Array) -> None:
    for i in range(begin, end):
        b = bits[i]
        a = b & 0x7FFFFFFF
        exponent = a >> 23
        mantissa = a & 0x7FFFFF
        start = CELLS32[mantissa >> 15]
        cell = start + (mantissa >= ENDS32[start])
        place = min(max(1 + (exponent - 127 + OCTAVES) * BINS_PER_OCTAVE + cell, 0), BINS - 1)
        place += BINS if b >= 0 else 0
        if a == 0 or exponent == 255:
            place = NOWHERE
        histogram[(i % COPIES) * STRIDE + place] += 1


@_jit
def _count64(bits: Array, begin: int, end: int, histogram: Array) -> None:
    for i in range(begin, end):
        b = bits[i]
        a = b & 0x7FFFFFFFFFFFFFFF
        exponent = a >> 52
        mantissa = a & 0xFFFFFFFFFFFFF
        start = CELLS64[mantissa >> 44]
        cell = start + (mantissa >= ENDS64[start])
        place = min(max(1 + (exponent - 1023 + OCTAVES) * BINS_PER_OCTAVE + cell, 0), BINS - 1)
        place += BINS if b >= 0 else 0
        if a == 0 or exponent == 2047:
            place = NOWHERE
        histogram[(i % COPIES) * STRIDE + place] += 1


@_jit
def _add_row(
    values: Array, begin: int, units: int, first: int, lower: float, upper: float, sums: Array, counts: Array
) -> None:
    """Add `units` neighbouring values, one of each unit from `first` on."""
    for k in range(units):
        x = np.float64(values[begin + k])
        u = first + k
        finite = abs(x) < np.inf
        y = x if finite else 0.0
        sums[0, u] += y
        sums[1, u] += y * y
        sums[2, u] = min(sums[2, u], x if finite else np.inf)
        sums[3, u] = max(sums[3, u], x if finite else -np.inf)
        counts[0, u] += x == 0.0
        counts[1, u] += finite & ((x < lower) | (x > upper))
        counts[2, u] += not finite


@_jit
def _add_run(
    values: Array, begin: int, end: int, unit: int, lower: float, upper: float, sums: Array, counts: Array
) -> None:
    """Add neighbouring values of one unit."""
    total, squares, minimum, maximum = 0.0, 0.0, np.inf, -np.inf
    zeros, outside, nonfinite = 0, 0, 0
    for i in range(begin, end):
        x = np.float64(values[i])
        finite = abs(x) < np.inf
        y = x if finite else 0.0
        total += y
        squares += y * y
        minimum = min(minimum, x if finite else np.inf)
        maximum = max(maximum, x if finite else -np.inf)
        zeros += x == 0.0
        outside += int(finite & ((x < lower) | (x > upper)))
        nonfinite += not finite
    sums[0, unit] += total
    sums[1, unit] += squares
    sums[2, unit] = min(sums[2, unit], minimum)
    sums[3, unit] = max(sums[3, unit], maximum)
    counts[0, unit] += zeros
    counts[1, unit] += outside
    counts[2, unit] += nonfinite


@_jit
def _pass32(values: Array, bits: Array, shape: Any, limits: Any, sums: Array, counts: Array, histogram: Array) -> None:
    """Read float32 values; `bits` is the same memory as int32."""
    outer, units, inner = shape
    run = units if inner == 1 else inner
    for segment in range(outer if inner == 1 else outer * units):
        for begin in range(segment * run, (segment + 1) * run, BLOCK):
            end = min(begin + BLOCK, (segment + 1) * run)
            if inner == 1:
                _add_row(values, begin, end - begin, begin - segment * run, limits[0], limits[1], sums, counts)
            else:
                _add_run(values, begin, end, segment % units, limits[0], limits[1], sums, counts)
            _count32(bits, begin, end, histogram)


@_jit
def _pass64(values: Array, bits: Array, shape: Any, limits: Any, sums: Array, counts: Array, histogram: Array) -> None:
    """Read float64 values; `bits` is the same memory as int64."""
    outer, units, inner = shape
    run = units if inner == 1 else inner
    for segment in range(outer if inner == 1 else outer * units):
        for begin in range(segment * run, (segment + 1) * run, BLOCK):
            end = min(begin + BLOCK, (segment + 1) * run)
            if inner == 1:
                _add_row(values, begin, end - begin, begin - segment * run, limits[0], limits[1], sums, counts)
            else:
                _add_run(values, begin, end, segment % units, limits[0], limits[1], sums, counts)
            _count64(bits, begin, end, histogram)


@_jit
def _pass16(raw: Array, decoded: Array, shape: Any, limits: Any, sums: Array, counts: Array, histogram: Array) -> None:
    """Read 16-bit values given as uint16; `decoded` holds the int32 pattern of the float32 that each one means."""
    outer, units, inner = shape
    run = units if inner == 1 else inner
    bits = np.empty(BLOCK, dtype=np.int32)
    values = bits.view(np.float32)
    for segment in range(outer if inner == 1 else outer * units):
        for begin in range(segment * run, (segment + 1) * run, BLOCK):
            n = min(BLOCK, (segment + 1) * run - begin)
            for k in range(n):
                bits[k] = decoded[raw[begin + k]]
            if inner == 1:
                _add_row(values, 0, n, begin - segment * run, limits[0], limits[1], sums, counts)
            else:
                _add_run(values, 0, n, segment % units, limits[0], limits[1], sums, counts)
            _count32(bits, 0, n, histogram)


@cache
def _decoder(dtype: torch.dtype) -> Array:
    """Return the int32 pattern of the float32 equal to each 16-bit pattern of `dtype`, shape (65536,)."""
    patterns = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16)
    return patterns.view(dtype).to(torch.float32).view(torch.int32).numpy().copy()


def summarise(x: Tensor, *, unit_dim: int | None = None, interval: tuple[float, float] | None = None) -> TensorSummary:
    """Summarise a dense CPU tensor of a dtype in `SUPPORTED`; arguments and result as `reference.summarise`.

    Raises KeyError for another dtype and RuntimeError for a tensor that is not on the CPU.
    """
    x = x.detach()
    flat, shape = _laid_out(x, unit_dim)
    pieces = _pieces(flat, shape, min(torch.get_num_threads(), flat.numel() // PARALLEL_FROM))
    limits = interval or (-math.inf, math.inf)
    summed = map if len(pieces) == 1 else _pool().map
    parts = list(summed(lambda piece: _summed(piece[0], piece[1], limits), pieces))
    sums, counts, histogram = parts[0]
    for other_sums, other_counts, other_histogram in parts[1:]:
        sums[:2] += other_sums[:2]
        np.minimum(sums[2], other_sums[2], out=sums[2])
        np.maximum(sums[3], other_sums[3], out=sums[3])
        counts += other_counts
        histogram += other_histogram
    return _as_summary(sums, counts, histogram, shape[0] * shape[2], with_units=unit_dim is not None and x.dim() > 0)


Shape = tuple[int, int, int]


def _laid_out(x: Tensor, unit_dim: int | None) -> tuple[Tensor, Shape]:
    """Return the elements as they lie in memory, one-dimensional, and how to read them: (outer, unit, inner)."""
    strides = x.stride()
    order = list(range(x.dim())) if x.is_contiguous() else sorted(range(x.dim()), key=lambda d: (-strides[d], d))
    ordered = x.permute(*order) if x.dim() else x
    if not ordered.is_contiguous():
        COPIED.append(x.numel())
        ordered, order = x.contiguous(), list(range(x.dim()))
    if unit_dim is None or x.dim() == 0:
        return ordered.reshape(-1), (1, 1, x.numel())
    position, sizes = order.index(unit_dim % x.dim()), ordered.shape
    return ordered.reshape(-1), (math.prod(sizes[:position]), sizes[position], math.prod(sizes[position + 1 :]))


def _pieces(flat: Tensor, shape: Shape, wanted: int) -> list[tuple[Tensor, Shape]]:
    """Cut a tensor into up to `wanted` parts of whole rows; a tensor without units anywhere."""
    outer, units, inner = shape
    rows, length = (inner, 1) if units == 1 and outer == 1 else (outer, units * inner)
    wanted = max(1, min(wanted, rows))
    cuts = [rows * k // wanted for k in range(wanted + 1)]
    sizes = [(1, 1, b - a) if units == 1 and outer == 1 else (b - a, units, inner) for a, b in pairwise(cuts)]
    return [(flat[a * length : b * length], size) for (a, b), size in zip(pairwise(cuts), sizes, strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="unstuck-stats")


def _summed(flat: Tensor, shape: Shape, limits: tuple[float, float]) -> tuple[Array, Array, Array]:
    """Make the pass over one part; return (sums, counts, histogram) of shapes (4, units), (3, units), (2, bins)."""
    sums = np.zeros((4, shape[1]))
    sums[2], sums[3] = np.inf, -np.inf
    counts = np.zeros((3, shape[1]), dtype=np.int64)
    histogram = np.zeros(COPIES * STRIDE, dtype=np.int64)
    if flat.dtype == torch.float32:
        _pass32(flat.numpy(), flat.view(torch.int32).numpy(), shape, limits, sums, counts, histogram)
    elif flat.dtype == torch.float64:
        _pass64(flat.numpy(), flat.view(torch.int64).numpy(), shape, limits, sums, counts, histogram)
    else:
        _pass16(flat.view(torch.uint16).numpy(), _decoder(flat.dtype), shape, limits, sums, counts, histogram)
    return sums, counts, histogram.reshape(COPIES, STRIDE)[:, : 2 * BINS].sum(0).reshape(2, BINS)


@np.errstate(over="ignore", invalid="ignore")  # sums of values near the largest float64 overflow
def _as_summary(sums: Array, counts: Array, histogram: Array, count: int, *, with_units: bool) -> TensorSummary:
    units = UnitSummary(count, sums[0], sums[1], sums[2], sums[3], counts[0], counts[1], counts[2])
    return TensorSummary(
        count * len(units),
        int(counts[2].sum()),
        int(counts[0].sum()),
        int(counts[1].sum()),
        float(sums[0].sum()),
        float(sums[1].sum()),
        float(sums[2].min(initial=math.inf)),
        float(sums[3].max(initial=-math.inf)),
        histogram,
        units if with_units else None,
    )
