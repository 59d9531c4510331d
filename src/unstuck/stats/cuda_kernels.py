"""The passes of `cuda.py`, in Triton (https://triton-lang.org); importing this module imports Triton.

A program reads tiles of (DEPTH, ROWS, COLUMNS) elements. Depth lies within each thread, so reducing it costs no
exchange; (ROWS, COLUMNS) are accumulators that stay in registers until the program ends. bfloat16 comes as int16.
"""
# mypy: disable-error-code="import-untyped,import-not-found,untyped-decorator,no-untyped-def,misc"
# ruff: noqa: N803, N806 (constants of a compilation are in capitals, as in Triton's own kernels)

from __future__ import annotations

import triton
import triton.language as tl

from unstuck.stats.summary import BINS, BINS_PER_OCTAVE, OCTAVES

FACTS = 7  # rows of the result: total, squares, minimum, maximum (bits of float64), zeros, outside, nonfinite
SPAN = 128  # bins below a tile's highest that one round of the histogram counts, plus one for what it leaves
MERGED = 32  # splits, and units, that the merge reads at a time

_BINS = tl.constexpr(BINS)
_BIN_BITS = tl.constexpr(BINS_PER_OCTAVE.bit_length() - 1)
_OCTAVES = tl.constexpr(OCTAVES)
_BINS_PER_OCTAVE = tl.constexpr(BINS_PER_OCTAVE)
_FACTS = tl.constexpr(FACTS)
_SPAN = tl.constexpr(SPAN)
_MERGED = tl.constexpr(MERGED)

FEATURES_LAST, ONE_RUN, CHANNELS_FIRST = range(3)
"""How units lie: neighbours; each in one run of neighbours; each in a run of `inner` neighbours per outer index."""
_FEATURES_LAST = tl.constexpr(FEATURES_LAST)
_ONE_RUN = tl.constexpr(ONE_RUN)


@triton.jit
def _decoded(raw):
    """Return the values of a tile in float32 or float64, exactly."""
    if raw.dtype == tl.int16:
        raw = (raw.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif raw.dtype == tl.float16:
        raw = raw.to(tl.float32)
    return raw


@triton.jit
def _add_to_histogram(place, histogram):
    """Count `place`, 2 * bin + (1 if positive) or -1 for no bin, one-dimensional, into `histogram` of (2, BINS).

    Each tile is counted within the program, over the SPAN - 1 bins (16 octaves) below its highest, until none is left:
    nearly always one round or two; so global atomics are one per filled bin of a tile, not one per element.
    """
    key = tl.arange(0, 2 * _SPAN)
    highest = tl.max(place, 0) >> 1
    while highest >= 0:
        below = highest - (place >> 1)
        taken = (place >= 0) & (below < _SPAN - 1)
        counts = tl.histogram(tl.where(taken, below + (place & 1) * _SPAN, _SPAN - 1), 2 * _SPAN)
        into = histogram + (key // _SPAN) * _BINS + highest - key % _SPAN
        tl.atomic_add(into, counts.to(tl.int64), mask=(counts > 0) & (key % _SPAN < _SPAN - 1), sem="relaxed")
        place = tl.where(taken, -1, place)
        highest = tl.max(place, 0) >> 1


@triton.jit
def _bin(magnitude, DOUBLE: tl.constexpr):
    """Return the bin, 0 to BINS - 1, of the bits of |x|: exponent and first mantissa bits, as `summary.EDGES` lie."""
    MANTISSA: tl.constexpr = 52 if DOUBLE else 23
    BIAS: tl.constexpr = 1023 if DOUBLE else 127
    rank = (magnitude >> (MANTISSA - _BIN_BITS)).to(tl.int32) - ((BIAS - _OCTAVES) * _BINS_PER_OCTAVE - 1)
    return tl.minimum(tl.maximum(rank, 0), _BINS - 1)


@triton.jit
def _store_sums(facts, units, unit, total, squares):
    tl.store(facts + unit, total.to(tl.int64, bitcast=True), mask=unit < units)
    tl.store(facts + units + unit, squares.to(tl.int64, bitcast=True), mask=unit < units)


@triton.jit
def _store_extremes(facts, units, unit, minimum, maximum):
    tl.store(facts + 2 * units + unit, minimum.to(tl.float64).to(tl.int64, bitcast=True), mask=unit < units)
    tl.store(facts + 3 * units + unit, maximum.to(tl.float64).to(tl.int64, bitcast=True), mask=unit < units)


@triton.jit
def _store_counts(facts, units, unit, zeros, outside, nonfinite):
    tl.store(facts + 4 * units + unit, zeros.to(tl.int64), mask=unit < units)
    tl.store(facts + 5 * units + unit, outside.to(tl.int64), mask=unit < units)
    tl.store(facts + 6 * units + unit, nonfinite.to(tl.int64), mask=unit < units)


@triton.jit
def _located(
    begin,
    block,
    units,
    inner,
    extent,
    HOW: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Return the offsets of a tile, from element `begin` of each unit of a block on, and which of them exist."""
    depth = tl.arange(0, DEPTH)[:, None, None]
    row = tl.arange(0, ROWS)[None, :, None]
    column = tl.arange(0, COLUMNS)[None, None, :]
    if HOW == _FEATURES_LAST:
        unit, k = block * COLUMNS + column, begin + depth * ROWS + row
        offset = k * units + unit
    else:
        unit, k = block * ROWS + row, begin + depth * COLUMNS + column
        offset = unit * inner + k if HOW == _ONE_RUN else (k // inner * units + unit) * inner + k % inner
    return offset, (k < extent) & (unit < units)


@triton.jit(do_not_specialize=["lower", "upper"])
def summarise_tiles(
    x,
    facts,
    histogram,
    lower,
    upper,
    units,
    inner,
    extent,
    HOW: tl.constexpr,
    WIDE: tl.constexpr,
    DOUBLE: tl.constexpr,
    DEPTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Summarise `x`; grid (blocks of units, splits). Program (b, s) writes row s of `facts`, (splits, FACTS, units).

    `extent` is the number of elements of one unit; `lower` and `upper` are the bits of the responsive interval's ends
    in the dtype computed in: float64 if DOUBLE, else float32. WIDE computes offsets in 64 bits.
    """
    FLOAT: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    BITS: tl.constexpr = tl.int64 if DOUBLE else tl.int32
    INFINITY: tl.constexpr = 0x7FF << 52 if DOUBLE else 0xFF << 23
    AXIS: tl.constexpr = 0 if HOW == _FEATURES_LAST else 1
    STEP: tl.constexpr = DEPTH * (ROWS if HOW == _FEATURES_LAST else COLUMNS)
    WIDTH: tl.constexpr = COLUMNS if HOW == _FEATURES_LAST else ROWS
    block, split = tl.program_id(0), tl.program_id(1)
    if WIDE:
        block, split = block.to(tl.int64), split.to(tl.int64)
    low, high = lower.to(BITS).to(FLOAT, bitcast=True), upper.to(BITS).to(FLOAT, bitcast=True)
    total = tl.zeros([ROWS, COLUMNS], tl.float64)
    squares = tl.zeros([ROWS, COLUMNS], tl.float64)
    minimum = tl.full([ROWS, COLUMNS], float("inf"), FLOAT)
    maximum = tl.full([ROWS, COLUMNS], float("-inf"), FLOAT)
    zeros = tl.zeros([ROWS, COLUMNS], tl.int32)
    outside = tl.zeros([ROWS, COLUMNS], tl.int32)
    nonfinite = tl.zeros([ROWS, COLUMNS], tl.int32)
    for begin in range(split * STEP, extent, tl.num_programs(1) * STEP):
        offset, valid = _located(begin, block, units, inner, extent, HOW, DEPTH, ROWS, COLUMNS)
        value = _decoded(tl.load(x + offset, mask=valid, other=0))
        magnitude = tl.abs(value).to(BITS, bitcast=True)
        finite = valid & (magnitude < INFINITY)
        known = tl.where(finite, value, 0.0).to(tl.float64)
        total += tl.sum(known, 0)
        squares += tl.sum(known * known, 0)
        minimum = tl.minimum(minimum, tl.min(tl.where(finite, value, float("inf")), 0))
        maximum = tl.maximum(maximum, tl.max(tl.where(finite, value, float("-inf")), 0))
        zeros += tl.sum((valid & (magnitude == 0)).to(tl.int32), 0)
        outside += tl.sum((finite & ((value < low) | (value > high))).to(tl.int32), 0)
        nonfinite += tl.sum((valid & (magnitude >= INFINITY)).to(tl.int32), 0)
        place = tl.where(finite & (magnitude > 0), 2 * _bin(magnitude, DOUBLE) + (value > 0).to(tl.int32), -1)
        _add_to_histogram(tl.reshape(place, [DEPTH * ROWS * COLUMNS], can_reorder=True), histogram)
    unit = block * WIDTH + tl.arange(0, WIDTH)
    facts += split * _FACTS * units
    _store_sums(facts, units, unit, tl.sum(total, AXIS), tl.sum(squares, AXIS))
    _store_extremes(facts, units, unit, tl.min(minimum, AXIS), tl.max(maximum, AXIS))
    zeros_in, outside_in = tl.sum(zeros.to(tl.int64), AXIS), tl.sum(outside.to(tl.int64), AXIS)
    _store_counts(facts, units, unit, zeros_in, outside_in, tl.sum(nonfinite.to(tl.int64), AXIS))


@triton.jit
def merge_splits(parts, facts, splits, units):
    """Merge `parts`, (splits, FACTS, units), into `facts`, (FACTS, units), in order; grid (blocks of units,)."""
    unit = tl.program_id(0) * _MERGED + tl.arange(0, _MERGED)
    total = tl.zeros([_MERGED, _MERGED], tl.float64)
    squares = tl.zeros([_MERGED, _MERGED], tl.float64)
    minimum = tl.full([_MERGED, _MERGED], float("inf"), tl.float64)
    maximum = tl.full([_MERGED, _MERGED], float("-inf"), tl.float64)
    zeros = tl.zeros([_MERGED, _MERGED], tl.int64)
    outside = tl.zeros([_MERGED, _MERGED], tl.int64)
    nonfinite = tl.zeros([_MERGED, _MERGED], tl.int64)
    for begin in range(0, splits, _MERGED):
        split = begin + tl.arange(0, _MERGED)[:, None]
        at = parts + split * _FACTS * units + unit[None, :]
        mask = (split < splits) & (unit < units)[None, :]
        total += tl.load(at, mask=mask, other=0).to(tl.float64, bitcast=True)
        squares += tl.load(at + units, mask=mask, other=0).to(tl.float64, bitcast=True)
        least = tl.load(at + 2 * units, mask=mask, other=0).to(tl.float64, bitcast=True)
        most = tl.load(at + 3 * units, mask=mask, other=0).to(tl.float64, bitcast=True)
        minimum = tl.minimum(minimum, tl.where(mask, least, float("inf")))
        maximum = tl.maximum(maximum, tl.where(mask, most, float("-inf")))
        zeros += tl.load(at + 4 * units, mask=mask, other=0)
        outside += tl.load(at + 5 * units, mask=mask, other=0)
        nonfinite += tl.load(at + 6 * units, mask=mask, other=0)
    _store_sums(facts, units, unit, tl.sum(total, 0), tl.sum(squares, 0))
    _store_extremes(facts, units, unit, tl.min(minimum, 0), tl.max(maximum, 0))
    _store_counts(facts, units, unit, tl.sum(zeros, 0), tl.sum(outside, 0), tl.sum(nonfinite, 0))
