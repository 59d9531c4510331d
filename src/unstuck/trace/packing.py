"""One step's numbers as one blob: a checksum, a header that names the arrays, and the arrays as they lie in memory."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.escape import one_line
from unstuck.stats.summary import BINS
from unstuck.stats.table import SummaryTable
from unstuck.trace.journal import Journal, TableEntry
from unstuck.trace.sites import Role
from unstuck.trace.trace import LossCall, Trace

Arrays = dict[str, npt.NDArray[Any]]
_TABLE = SummaryTable.__slots__
_COLUMNS = {  # and the kind of numbers in them
    **dict.fromkeys(("table_sites", "table_roles", "scalar_sites", "scalar_names", "vector_sites"), "i"),
    **dict.fromkeys(("vector_names", "vector_lengths", "loss_sites", "steps"), "i"),
    **dict.fromkeys(("scalar_values", "vector_values", "loss_values", "loss_baselines", "values"), "f"),
    **dict.fromkeys(("table_replaces", "loss_known"), "b"),
}
UNLIMITED = 1 << 62
_KINDS = "fiub"  # of dtypes that may stand in a file


class PackingError(ValueError):
    """A blob is not what `pack` made: one printable line, whatever the blob holds."""

    def __init__(self, why: str) -> None:
        super().__init__(one_line(why)[:200])


def pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays of numbers as bytes."""
    header = json.dumps([[name, array.dtype.str, array.shape] for name, array in arrays.items()]).encode()
    body = b"".join([len(header).to_bytes(4, "little"), header, *(array.tobytes() for array in arrays.values())])
    return zlib.crc32(body).to_bytes(4, "little") + body


def unpack(blob: bytes) -> Arrays:
    """Return what `pack` was given, as arrays that cannot be written to; raises PackingError."""
    if len(blob) < 8 or zlib.crc32(memoryview(blob)[4:]) != int.from_bytes(blob[:4], "little"):
        raise PackingError("a checksum is wrong")
    at = 8 + int.from_bytes(blob[4:8], "little")
    arrays: Arrays = {}
    try:
        for name, code, shape in json.loads(blob[8:at]):
            dtype = np.dtype(code)
            if dtype.kind not in _KINDS or not dtype.itemsize:
                raise PackingError(f"arrays of dtype {code} are unknown")
            if not all(isinstance(length, int) and length >= 0 for length in shape):
                raise PackingError(f"no array has the shape {shape}")
            count = math.prod(shape)
            arrays[name] = np.frombuffer(blob, dtype, count, at).reshape(shape)
            at += count * dtype.itemsize
    except (ValueError, TypeError, SyntaxError, ArithmeticError, RecursionError) as error:  # the third: a dtype's
        raise PackingError(str(error)) from None
    if at != len(blob):
        raise PackingError(f"{len(blob)} bytes where {at} were expected")
    return arrays


@dataclass
class StepNumbers:
    """All that was entered for one step, in order."""

    tables: list[TableEntry] = field(default_factory=list)
    scalars: list[tuple[int, int, str, float]] = field(default_factory=list)
    vectors: list[tuple[int, int, str, npt.NDArray[np.float64]]] = field(default_factory=list)
    loss_calls: list[LossCall] = field(default_factory=list)


def by_step(journal: Journal, loss_calls: Sequence[LossCall]) -> dict[int, StepNumbers]:
    """Return the numbers of a journal by step, without those of dropped steps."""
    steps: dict[int, StepNumbers] = {}

    def of(step: int) -> StepNumbers:
        return steps.setdefault(step, StepNumbers())

    for table in journal.tables:
        of(table[0]).tables.append(table)
    for scalar in journal.scalars:
        of(scalar[0]).scalars.append(scalar)
    for vector in journal.vectors:
        of(vector[0]).vectors.append(vector)
    for call in loss_calls:
        of(call.step).loss_calls.append(call)
    return {step: numbers for step, numbers in steps.items() if step not in journal.dropped}


def to_arrays(numbers: StepNumbers, number_of: Callable[[str], int], unit_cap: int | None = None) -> Arrays:
    """Return one step's numbers as arrays; `number_of` numbers names, rows lose their units beyond `unit_cap`."""
    arrays: Arrays = {}
    parts, sites, roles, replaces = [], [], [], []
    for _, keys, table, rows, replacing in numbers.tables:
        known = [(row, key) for row, key in zip(rows, keys, strict=True) if row >= 0]
        if known:
            parts.append(table.take([row for row, _ in known]))
            sites += [site for _, (site, _) in known]
            roles += [number_of(role._value_) for _, (_, role) in known]
            replaces += [replacing] * len(known)
    if parts:
        joined = SummaryTable.joined(parts)
        joined = joined if unit_cap is None else _without_units(joined, unit_cap)
        arrays |= {f"table_{name}": getattr(joined, name) for name in _TABLE}
        arrays["table_sites"] = np.array(sites, dtype=np.int32)
        arrays["table_roles"] = np.array(roles, dtype=np.int32)
        arrays["table_replaces"] = np.array(replaces, dtype=np.bool_)
    if numbers.scalars:
        arrays["scalar_sites"] = np.array([site for _, site, _, _ in numbers.scalars], dtype=np.int32)
        arrays["scalar_names"] = np.array([number_of(name) for _, _, name, _ in numbers.scalars], dtype=np.int32)
        arrays["scalar_values"] = np.array([value for *_, value in numbers.scalars], dtype=np.float64)
    if numbers.vectors:
        arrays["vector_sites"] = np.array([site for _, site, _, _ in numbers.vectors], dtype=np.int32)
        arrays["vector_names"] = np.array([number_of(name) for _, _, name, _ in numbers.vectors], dtype=np.int32)
        arrays["vector_lengths"] = np.array([len(values) for *_, values in numbers.vectors], dtype=np.int64)
        arrays["vector_values"] = np.concatenate([values for *_, values in numbers.vectors])
    if calls := numbers.loss_calls:
        arrays["loss_sites"] = np.array([call.site for call in calls], dtype=np.int32)
        arrays["loss_values"] = np.array([call.value for call in calls], dtype=np.float64)
        arrays["loss_known"] = np.array([call.baseline is not None for call in calls], dtype=np.bool_)
        arrays["loss_baselines"] = np.array([call.baseline or 0.0 for call in calls], dtype=np.float64)
    return arrays


def enter(trace: Trace, step: int, arrays: Arrays, names: Mapping[int, str]) -> None:
    """Enter what `to_arrays` made into a trace; raises KeyError, IndexError or ValueError for what it did not make."""
    places = range(len(trace.sites))
    check_columns(arrays)
    if "table_sites" in arrays:
        table = SummaryTable(*(arrays[f"table_{name}"] for name in _TABLE))
        check_table(table)
        roles = [Role(names[number]) for number in arrays["table_roles"].tolist()]
        keys = list(zip((places[site] for site in arrays["table_sites"].tolist()), roles, strict=True))
        replaces = arrays["table_replaces"]
        ends = [0, *(np.flatnonzero(replaces[1:] != replaces[:-1]) + 1).tolist(), len(keys)]
        for first, end in pairwise(ends):
            rows = range(first, end)
            trace.add_table(step, keys[first:end], table, rows, replace=bool(replaces[first]))
    for kind in ("scalar", "vector"):
        if f"{kind}_sites" not in arrays:
            continue
        sites = [places[site] for site in arrays[f"{kind}_sites"].tolist()]
        named = [names[number] for number in arrays[f"{kind}_names"].tolist()]
        if kind == "scalar":
            for site, name, value in zip(sites, named, arrays["scalar_values"].tolist(), strict=True):
                trace.add_scalar(step, site, name, value)
        else:
            pieces = np.split(arrays["vector_values"], np.cumsum(arrays["vector_lengths"])[:-1])
            for site, name, piece in zip(sites, named, pieces, strict=True):
                trace.add_vector(step, site, name, piece)
    if "loss_sites" in arrays:
        columns = (arrays[f"loss_{name}"].tolist() for name in ("sites", "values", "known", "baselines"))
        for site, value, known, baseline in zip(*columns, strict=True):
            trace.loss_calls.append(LossCall(step, places[site], value, baseline if known else None))


def check_columns(arrays: Arrays) -> None:
    """Raise ValueError unless the columns of numbers, and what says where they belong, are such."""
    for name, column in arrays.items():
        kind = _COLUMNS.get(name)
        if kind is not None and (column.ndim != 1 or column.dtype.kind != kind):
            raise ValueError(f"{name} is no column of its kind")
    if "vector_lengths" in arrays:
        lengths = arrays["vector_lengths"]
        if (lengths < 0).any() or (lengths > len(arrays["vector_values"])).any():
            raise ValueError("vectors have impossible lengths")
        if int(lengths.sum()) != len(arrays["vector_values"]):
            raise ValueError("vectors have other lengths than they say")


def check_table(table: SummaryTable) -> None:
    """Raise ValueError unless the parts of a table fit together as `SummaryTable` says."""
    rows, bins, units = len(table.numbers), len(table.bins), table.unit_sums.shape[-1]
    shapes = {
        "numbers": ("f", (rows, 4)),
        "counts": ("i", (rows, 4)),
        "starts": ("i", (rows + 1,)),
        "bins": ("u", (bins,)),
        "filled": ("i", (bins,)),
        "has_units": ("b", (rows,)),
        "unit_starts": ("i", (rows + 1,)),
        "unit_sums": ("f", (2, units)),
        "unit_ends": ("f", (2, units)),
        "unit_counts": ("i", (3, units)),
    }
    for name, (kind, shape) in shapes.items():
        array = getattr(table, name)
        if array.dtype.kind != kind or array.shape != shape:
            raise ValueError(f"{name} of a table is {array.dtype.kind} {array.shape}, not {kind} {shape}")
    for starts, end in ((table.starts, bins), (table.unit_starts, units)):
        if starts[0] != 0 or starts[-1] != end or (starts[1:] < starts[:-1]).any():
            raise ValueError("rows of a table begin nowhere")
    if (table.counts < 0).any() or (table.filled < 0).any() or (table.unit_counts < 0).any():
        raise ValueError("a table has counts below 0")
    if bins and int(table.bins.max()) >= 2 * BINS:
        raise ValueError("a table has bins that there are not")


def unit_cap(numbers: StepNumbers, limit: int) -> int:
    """Return up to how many units a row may keep them for, so that those of a step take at most `limit` bytes."""
    lengths: list[int] = []
    each = 36  # bytes a unit, at most
    for _, _, table, rows, _ in numbers.tables:
        kept = np.array([row for row in rows if row >= 0], dtype=np.int64)
        lengths += (table.unit_starts[kept + 1] - table.unit_starts[kept]).tolist()
    cap, total = 0, 0
    for length in sorted(lengths):
        total += length * each
        if total > limit:
            return cap
        cap = length
    return UNLIMITED


def _without_units(table: SummaryTable, cap: int) -> SummaryTable:
    """Return a table without the units of rows that have more than `cap`."""
    lengths = np.diff(table.unit_starts)
    kept = lengths <= cap
    if kept.all():
        return table
    own = np.repeat(kept, lengths)
    return replace(
        table,
        has_units=table.has_units & kept,
        unit_starts=np.cumsum([0, *np.where(kept, lengths, 0)], dtype=np.int64),
        unit_sums=table.unit_sums[:, own],
        unit_ends=table.unit_ends[:, own],
        unit_counts=table.unit_counts[:, own],
    )
