"""The compiled passes over memory, for numba (https://numba.readthedocs.io); `cpu.py` says what they are given.

Elements are read in chunks that stay in the first-level cache, and each chunk is gone over by several short loops that
the compiler can vectorise, since one loop that does everything is not. The histogram is counted by the top twelve bits
of a float32 (sign, exponent, three bits of the mantissa): one shift an element. What is rare (zeros, non-finite
values) is noticed there, and only a chunk that has some is looked at again. Extremes are found on the bit patterns,
where integer comparison orders floats of one sign.

All is in one file, however long: numba renews its cache on disk when the file of the cached function has changed, and
looks at no other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

from unstuck.stats.columns import (
    ADDRESS,
    COLUMNS,
    COUNT,
    INNER,
    MAXIMUM,
    MINIMUM,
    MINUS,
    NONFINITE,
    OUTER,
    OUTSIDE,
    SQUARES,
    STRIDE,
    TOTAL,
    UNITS,
    UNITS_AT,
    ZEROS,
)  # fmt: skip
from unstuck.stats.summary import BINS, BINS_PER_OCTAVE, OCTAVES

Array = npt.NDArray[Any]

CHUNK = 2048  # elements looked at together: 8 KiB of float32, a sixth of a usual first-level cache
SIDE = 2048  # counters of one sign: 8 bits of exponent, 3 of mantissa
COPIES = 2  # of the counters, so that equal neighbours do not wait for one another
LOWEST = (127 - OCTAVES) * BINS_PER_OCTAVE  # the counter of the histogram's first bin above its underflow bin
INFINITE = 255 * BINS_PER_OCTAVE  # from here on: infinities and NaN, which nobody reads off the counters

_jit = numba.njit(nogil=True, fastmath={"reassoc", "contract"})
_I0, _I1, _MAGNITUDE64 = np.int32(0), np.int32(1), np.int64(0x7FFFFFFFFFFFFFFF)


@intrinsic
def _pointer(_context: Any, address: Any, like: Any) -> Any:
    """Return `address` (int64) as a pointer to elements of the type that the array `like` has."""
    signature = types.CPointer(like.dtype)(address, like)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return signature, generate


@intrinsic
def _fetch_and_add(_context: Any, pointer: Any) -> Any:
    """Return the int64 at `pointer` and add 1 to it, as one operation for all threads."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", args[0], one, "monotonic")

    return types.int64(pointer), generate


# -- loops over one chunk ----------------------------------------------------------------------------------------------


@_jit
def _sums(values: Array) -> tuple[float, float]:
    total, squares = 0.0, 0.0
    for k in range(len(values)):
        x = np.float64(values[k])
        total += x
        squares += x * x
    return total, squares


@_jit
def _extremes(bits: Array, unsigned: Array) -> Any:
    """Return the greatest and least pattern as signed integers and the greatest as unsigned."""
    top, bottom, furthest = bits[0], bits[0], unsigned[0]
    for k in range(len(bits)):
        b, u = bits[k], unsigned[k]
        top = b if b > top else top
        bottom = b if b < bottom else bottom
        furthest = u if u > furthest else furthest
    return top, bottom, furthest


@_jit
def _outside(values: Array, lower: Any, upper: Any) -> Any:
    n = _I0
    for k in range(len(values)):
        x = values[k]
        n += _I1 if (x < lower) | (x > upper) else _I0
    return n


@_jit
def _equal(patterns: Array, pattern: Any) -> Any:
    n = _I0
    for k in range(len(patterns)):
        n += _I1 if patterns[k] == pattern else _I0
    return n


def _find_places(bits: Array, unsigned: Array, places: Array) -> None:
    """Write the counter of each element; `bits` and `unsigned` are the same memory."""


@overload(_find_places)
def _find_places_of(bits: Any, unsigned: Any, places: Any) -> Any:  # noqa: ARG001
    def of32(bits: Any, unsigned: Any, places: Any) -> Any:  # noqa: ARG001
        for k in range(len(unsigned)):
            places[k] = unsigned[k] >> np.uint32(20)

    def of64(bits: Any, unsigned: Any, places: Any) -> Any:  # noqa: ARG001
        for k in range(len(bits)):  # exponents that float32 has not go to its least and greatest ones
            a = bits[k] & _MAGNITUDE64
            place = min(max((a >> 49) - (1023 - 127) * BINS_PER_OCTAVE, 0), INFINITE - 1)
            place = INFINITE if a >> 52 == 2047 else place
            places[k] = place + (SIDE if bits[k] < 0 else 0)

    return of32 if bits.dtype is types.int32 else of64


@_jit
def _count(places: Array, counters: Array) -> None:
    even = len(places) // 2 * 2
    for k in range(0, even, 2):
        counters[0, places[k]] += _I1
        counters[1, places[k + 1]] += _I1
    if even < len(places):
        counters[0, places[even]] += _I1


@_jit
def _add_rows(rows: Array, lower: Any, upper: Any, results: Any) -> None:
    """Add finite `rows`, (n, units), to the results of each unit, four rows at a time."""
    n, units = rows.shape
    totals, squares, lows, highs, zeros, outsides, _ = results
    for r in range(0, n - 3, 4):
        a, b, c, d = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        for u in range(units):
            w, x, y, z = np.float64(a[u]), np.float64(b[u]), np.float64(c[u]), np.float64(d[u])
            totals[u] += (w + x) + (y + z)
            squares[u] += (w * w + x * x) + (y * y + z * z)
        for u in range(units):
            w, x, y, z = a[u], b[u], c[u], d[u]
            low, high = x if x < w else w, w if x < w else x
            low2, high2 = z if z < y else y, y if z < y else z
            low, high = low2 if low2 < low else low, high2 if high2 > high else high
            lows[u] = low if low < lows[u] else lows[u]
            highs[u] = high if high > highs[u] else highs[u]
        for u in range(units):
            w, x, y, z = a[u], b[u], c[u], d[u]
            zeros[u] += (_I1 if w == 0 else _I0) + (_I1 if x == 0 else _I0)
            zeros[u] += (_I1 if y == 0 else _I0) + (_I1 if z == 0 else _I0)
            outsides[u] += (_I1 if (w < lower) | (w > upper) else _I0) + (_I1 if (x < lower) | (x > upper) else _I0)
            outsides[u] += (_I1 if (y < lower) | (y > upper) else _I0) + (_I1 if (z < lower) | (z > upper) else _I0)
    for r in range(n // 4 * 4, n):
        row = rows[r]
        for u in range(units):
            x = row[u]
            totals[u] += np.float64(x)
            squares[u] += np.float64(x) * np.float64(x)
            lows[u] = x if x < lows[u] else lows[u]
            highs[u] = x if x > highs[u] else highs[u]
            zeros[u] += _I1 if x == 0 else _I0
            outsides[u] += _I1 if (x < lower) | (x > upper) else _I0


@_jit
def _add_carefully(values: Array, lower: Any, upper: Any, unit: int, units: int, results: Any) -> None:
    """Add values of which some are not finite: one to each of `units` units in turn, from number `unit` on."""
    totals, squares, lows, highs, zeros, outsides, nonfinites = results
    for k in range(len(values)):
        x = values[k]
        u = unit + k % units
        if np.isfinite(x):
            totals[u] += np.float64(x)
            squares[u] += np.float64(x) * np.float64(x)
            lows[u] = min(lows[u], x)
            highs[u] = max(highs[u], x)
            zeros[u] += _I1 if x == 0 else _I0
            outsides[u] += _I1 if (x < lower) | (x > upper) else _I0
        else:
            nonfinites[u] += _I1


# -- loading -----------------------------------------------------------------------------------------------------------


def _load(raw: Array, minus: Array, begin: int, n: int, stride: int, buffer: Array) -> Any:
    """Return `n` elements from number `begin` on of every `stride`-th one, as float32 or float64, less `minus`."""


@_jit
def _decode_bfloat16(raw: Array, begin: int, n: int, stride: int, out: Array) -> None:
    bits = out.view(np.int32)
    for k in range(n):
        bits[k] = np.int32(raw[(begin + k) * stride]) << np.int32(16)


@_jit
def _decode_float16(raw: Array, begin: int, n: int, stride: int, out: Array) -> None:
    """Subnormals are made by a product within float32's normal range, whatever the processor does with its own."""
    bits = out.view(np.int32)
    for k in range(n):
        h = np.int32(raw[(begin + k) * stride])
        a = h & np.int32(0x7FFF)
        exponent = np.int32(112 << 23) if a < np.int32(0x7C00) else np.int32(224 << 23)
        bits[k] = ((a << np.int32(13)) + exponent) | ((h & np.int32(-0x8000)) << np.int32(16))
    for k in range(n):
        h = np.int32(raw[(begin + k) * stride])
        a = h & np.int32(0x7FFF)
        tiny = np.float32(a) * np.float32(2.0**-24)
        out[k] = out[k] if a >= np.int32(0x400) else (tiny if h >= _I0 else -tiny)


@overload(_load)
def _load_of(raw: Any, minus: Any, begin: Any, n: Any, stride: Any, buffer: Any) -> Any:  # noqa: ARG001
    def floats(raw: Any, minus: Any, begin: Any, n: Any, stride: Any, buffer: Any) -> Any:
        if stride == 1 and len(minus) == 0:
            return raw[begin : begin + n]
        for k in range(n):
            buffer[0, k] = raw[(begin + k) * stride]
        if len(minus):
            for k in range(n):
                buffer[0, k] -= minus[begin + k]
        return buffer[0, :n]

    def bfloat16(raw: Any, minus: Any, begin: Any, n: Any, stride: Any, buffer: Any) -> Any:
        _decode_bfloat16(raw, begin, n, stride, buffer[0])
        if len(minus):
            _decode_bfloat16(minus, begin, n, 1, buffer[1])
            for k in range(n):
                buffer[0, k] -= buffer[1, k]
        return buffer[0, :n]

    def float16(raw: Any, minus: Any, begin: Any, n: Any, stride: Any, buffer: Any) -> Any:
        _decode_float16(raw, begin, n, stride, buffer[0])
        if len(minus):
            _decode_float16(minus, begin, n, 1, buffer[1])
            for k in range(n):
                buffer[0, k] -= buffer[1, k]
        return buffer[0, :n]

    return {types.uint16: bfloat16, types.int16: float16}.get(raw.dtype, floats)


# -- a tensor ----------------------------------------------------------------------------------------------------------


def _patterns(values: Array) -> Any:
    """Return the same memory as signed and as unsigned integers."""


@overload(_patterns)
def _patterns_of(values: Any) -> Any:
    def of32(values: Any) -> Any:
        return values.view(np.int32), values.view(np.uint32)

    def of64(values: Any) -> Any:
        return values.view(np.int64), values.view(np.uint64)

    return of32 if values.dtype is types.float32 else of64


@_jit
def _count_chunk(values: Array, scratch: Any) -> bool:
    """Count a chunk into the histogram and find its extremes; tell whether all is finite.

    The scratch array `seen` gets the number of zeros of either sign, and of negative ones; `ends` the extremes.
    """
    _, places, ends, seen, counters = scratch
    bits, unsigned = _patterns(values)
    _find_places(bits, unsigned, places[: len(bits)])
    positive, negative = counters[0, 0] + counters[1, 0], counters[0, SIDE] + counters[1, SIDE]
    _count(places[: len(bits)], counters)
    seen[:] = 0
    if counters[0, SIDE] + counters[1, SIDE] > negative:
        seen[1] = _equal(unsigned, unsigned.dtype.type(1) << unsigned.dtype.type(8 * unsigned.itemsize - 1))
        seen[0] = seen[1]
    if counters[0, 0] + counters[1, 0] > positive:
        seen[0] += _equal(unsigned, unsigned.dtype.type(0))
    top, bottom, furthest = _extremes(bits, unsigned)
    found, _ = _patterns(ends)
    found[0] = bits.dtype.type(furthest) if bottom < 0 else bottom
    found[1] = top if top >= 0 else bottom
    return bool(np.isfinite(ends[0]) and np.isfinite(ends[1]))


@_jit
def _add_runs(raw: Array, minus: Array, shape: Any, limits: Any, scratch: Any, results: Any) -> int:
    """Read a tensor whose units have `inner` neighbouring elements each; return the number of negative zeros."""
    outer, units, inner, stride = shape
    buffer, _, ends, seen, _ = scratch
    totals, squares, lows, highs, zeros, outsides, _ = results
    negative_zeros = 0
    for run in range(outer * units):
        u = run % units
        for begin in range(run * inner, (run + 1) * inner, CHUNK):
            n = min(CHUNK, (run + 1) * inner - begin)
            values = _load(raw, minus, begin, n, stride, buffer)
            finite = _count_chunk(values, scratch)
            negative_zeros += seen[1]
            if not finite:
                _add_carefully(values, limits[0], limits[1], u, 1, results)
                continue
            total, square = _sums(values)
            totals[u] += total
            squares[u] += square
            lows[u] = min(lows[u], ends[0])
            highs[u] = max(highs[u], ends[1])
            zeros[u] += np.int32(seen[0])
            if limits[2]:
                outsides[u] += _outside(values, limits[0], limits[1])
    return negative_zeros


@_jit
def _add_table(raw: Array, minus: Array, shape: Any, limits: Any, scratch: Any, results: Any) -> int:
    """Read a tensor whose neighbouring elements belong to one unit each; return the number of negative zeros."""
    outer, units, _, stride = shape
    buffer, _, _, seen, _ = scratch
    negative_zeros = 0
    step = _rows_at_once(units)
    for row in range(0, outer, step):
        rows = min(step, outer - row)
        values = _load(raw, minus, row * units, rows * units, stride, buffer)
        finite = True
        for begin in range(0, rows * units, CHUNK):
            finite &= _count_chunk(values[begin : min(begin + CHUNK, rows * units)], scratch)
            negative_zeros += seen[1]
        if finite:
            _add_rows(values.reshape(rows, units), limits[0], limits[1], results)
        else:
            _add_carefully(values, limits[0], limits[1], 0, units, results)
    return negative_zeros


@_jit
def _rows_at_once(units: int) -> int:
    return max(4, CHUNK // max(1, units))


@_jit
def _take_bins(counters: Array, row: int, top: int, tiny: int, at: int, bins: Array, filled: Array) -> int:
    """Write the filled bins of one sign from place `at` on, clear its counters, and return the place after.

    `top` is the counter of its value farthest from zero; `tiny` the number of its zeros, which belong in no bin.
    """
    base = SIDE if row == 0 else 0
    below = counters[0, base : base + LOWEST].sum() + counters[1, base : base + LOWEST].sum()
    if below:
        counters[:, base : base + LOWEST] = 0
    if below - tiny:
        bins[at], filled[at] = row * BINS, below - tiny
        at += 1
    first, end = base + LOWEST, base + LOWEST + BINS - 2
    for group in range(first, min(end, base + top + 1), 16):
        if counters[0, group : group + 16].sum() + counters[1, group : group + 16].sum() == 0:
            continue
        for place in range(group, group + 16):
            n = counters[0, place] + counters[1, place]
            if n:
                bins[at], filled[at] = row * BINS + 1 + place - first, n
                at += 1
            counters[0, place] = 0
            counters[1, place] = 0
    if base + top >= end:
        above = counters[0, end : base + INFINITE].sum() + counters[1, end : base + INFINITE].sum()
        counters[:, end : base + INFINITE] = 0
        if above:
            bins[at], filled[at] = row * BINS + BINS - 1, above
            at += 1
    return at


@_jit
def _place_of(value: Any, scratch: Any) -> int:
    """Return the counter, of its sign, that a value is counted by."""
    _, places, ends, _, _ = scratch
    ends[0] = abs(value)
    bits, unsigned = _patterns(ends[:1])
    _find_places(bits, unsigned, places[:1])
    return int(places[0])


@_jit
def _summarise_row(like: Array, row: Array, limits: Array, scratch: Any, results: Any, out: Any) -> int:
    """Summarise one tensor; `out` is its rows of `numbers` and `counts`, all bins, and where its own begin."""
    outer, units, inner, stride = row[OUTER], row[UNITS], row[INNER], row[STRIDE]
    numbers, counts, bins, filled, to = out
    totals, squares, lows, highs, zeros, outsides, nonfinites = results
    n = outer * units * inner
    raw = carray(_pointer(row[ADDRESS], like), (n * stride,))  # type: ignore[call-arg]
    minus = carray(_pointer(row[MINUS], like), (n if row[MINUS] else 0,))
    limit = limits[0], limits[1], limits[0] > -np.inf or limits[1] < np.inf
    if n and inner == 1:
        negative_zeros = _add_table(raw, minus, (outer, units, inner, stride), limit, scratch, results)
    else:
        negative_zeros = _add_runs(raw, minus, (outer, units, inner, stride), limit, scratch, results)
    low, high, zero, nonfinite = np.inf, -np.inf, 0, 0
    if units:
        low, high, zero, nonfinite = np.float64(lows.min()), np.float64(highs.max()), zeros.sum(), nonfinites.sum()
    numbers[TOTAL], numbers[SQUARES] = totals.sum(), squares.sum()
    numbers[MINIMUM], numbers[MAXIMUM] = low, high
    counts[COUNT], counts[NONFINITE], counts[ZEROS], counts[OUTSIDE] = n, nonfinite, zero, outsides.sum()
    if low < 0 or negative_zeros:
        top = _place_of(lows.dtype.type(min(low, 0.0)), scratch)
        to = _take_bins(scratch[4], 0, top, negative_zeros, to, bins, filled)
    if high >= 0:
        top = _place_of(lows.dtype.type(high), scratch)
        to = _take_bins(scratch[4], 1, top, zero - negative_zeros, to, bins, filled)
    return to


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def summarise_table(
    like: Array,
    first: int,
    end: int,
    table: Array,
    limits: Array,
    numbers: Array,
    counts: Array,
    spans: Array,
    bins: Array,
    filled: Array,
    unit_sums: Array,
    unit_ends: Array,
    unit_counts: Array,
) -> None:
    """Summarise the tensors of rows `first` to `end` of a table.

    `like` has the type to read (uint16 for bfloat16, int16 for float16), `limits`, (tensors, 2), holds the responsive
    intervals in the type to compute in. Results: `numbers`, float64 (tensors, 4), and `counts`, int64 (tensors, 4), by
    the columns named above; the filled bins of tensor k and how many elements each has, from `spans[k, 0]` to
    `spans[k, 1]`, where those of tensor `first` begin at `first * 2 * BINS`; and for all units of all tensors
    `unit_sums`, float64 (2, units), of values and squares; `unit_ends`, (2, units) of the computing type;
    `unit_counts`, int32 (3, units), of zeros, elements outside and non-finite ones.
    """
    widest = CHUNK
    for k in range(first, end):
        if table[k, INNER] == 1:
            widest = max(widest, _rows_at_once(table[k, UNITS]) * table[k, UNITS])
    buffer, places, ends = np.empty((2, widest), limits.dtype), np.empty(CHUNK, np.uint16), np.empty(2, limits.dtype)
    scratch = buffer, places, ends, np.zeros(2, np.int64), np.zeros((COPIES, 2 * SIDE), np.int32)
    to = first * 2 * BINS
    for k in range(first, end):
        a = table[k, UNITS_AT]
        b = a + table[k, UNITS]
        unit_sums[:, a:b] = 0.0
        unit_ends[0, a:b] = np.inf
        unit_ends[1, a:b] = -np.inf
        unit_counts[:, a:b] = 0
        sums, extremes = (unit_sums[0, a:b], unit_sums[1, a:b]), (unit_ends[0, a:b], unit_ends[1, a:b])
        counted = unit_counts[0, a:b], unit_counts[1, a:b], unit_counts[2, a:b]
        out = numbers[k], counts[k], bins, filled, to
        spans[k, 0] = to
        to = _summarise_row(like, table[k], limits[k], scratch, (*sums, *extremes, *counted), out)
        spans[k, 1] = to


# -- work for several threads ------------------------------------------------------------------------------------------

ARRAYS = 10  # that `summarise_table` takes after `end`


@_jit
def _work(data: Any, like: Array, compute: Array) -> None:
    """Take part after part of a table until all are taken.

    `data`, int64, holds a counter, the numbers of parts, tensors and units, the addresses of the arrays, and where each
    part begins, and the last one ends.
    """
    head = carray(data, (4 + ARRAYS,))
    parts, n, units = head[1], head[2], head[3]
    bounds = carray(data, (4 + ARRAYS + parts + 1,))[4 + ARRAYS :]
    integers, floats, halves, singles = (
        np.empty(0, np.int64),
        np.empty(0),
        np.empty(0, np.uint16),
        np.empty(0, np.int32),
    )
    while True:
        part = _fetch_and_add(data)  # type: ignore[call-arg, var-annotated]
        if part >= parts:
            return
        summarise_table(
            like,
            bounds[part],
            bounds[part + 1],
            carray(_pointer(head[4], integers), (n, COLUMNS)),
            carray(_pointer(head[5], compute), (n, 2)),
            carray(_pointer(head[6], floats), (n, 4)),
            carray(_pointer(head[7], integers), (n, 4)),
            carray(_pointer(head[8], integers), (n, 2)),
            carray(_pointer(head[9], halves), (n * 2 * BINS,)),
            carray(_pointer(head[10], singles), (n * 2 * BINS,)),
            carray(_pointer(head[11], floats), (2, units)),
            carray(_pointer(head[12], compute), (2, units)),
            carray(_pointer(head[13], singles), (3, units)),
        )


def _work_float32(data: Any) -> None:
    _work(data, np.empty(0, np.float32), np.empty(0, np.float32))


def _work_float64(data: Any) -> None:
    _work(data, np.empty(0, np.float64), np.empty(0, np.float64))


def _work_bfloat16(data: Any) -> None:
    _work(data, np.empty(0, np.uint16), np.empty(0, np.float32))


def _work_float16(data: Any) -> None:
    _work(data, np.empty(0, np.int16), np.empty(0, np.float32))


@cache
def worker(read: Any) -> int:
    """Return the address of the compiled `_work` for elements of this numpy type, C type void(int64 *)."""
    work = {
        np.float32: _work_float32,
        np.float64: _work_float64,
        np.uint16: _work_bfloat16,
        np.int16: _work_float16,
    }
    signature = types.void(types.CPointer(types.int64))  # type: ignore[no-untyped-call]
    address = numba.cfunc(signature, cache=True)(work[read]).address
    assert address is not None
    return address
