"""What one rank, or several together, bring to a merge: plain columns, as bytes on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.ranks.rows import ROLES, Rows
from unstuck.stats.table import SummaryTable
from unstuck.trace.packing import Arrays, PackingError, check_table, pack, unpack

Column = npt.NDArray[Any]

RECORD = ("rank", "loss", "nonfinite_since", "data", "parameters", "bad_rows", "sent")
"""What is known of each rank by itself, float64: its mean loss since the last merge (NaN: none), the first step whose
loss was not finite, a digest of its batch and one of its replicated parameters (each below 2^53; -1: none), how many of
its rows of activations held elements that are not finite, and bytes sent so far."""


@dataclass(frozen=True, eq=False)
class Losses:
    """Values by step, or loss calls by step, site (its name) and number of the call: sums, and of how many ranks."""

    steps: Column
    names: Column
    numbers: Column
    totals: Column
    counts: Column
    baselines: Column
    known: Column

    @classmethod
    def of_rank(cls, entries: Sequence[tuple[int, int, int, float, float | None]]) -> Losses:
        """Return (step, name, number, value, baseline) of one rank."""
        columns = list(zip(*entries, strict=True)) or [()] * 5
        return cls(
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=np.uint64),
            np.array(columns[2], dtype=np.int64),
            np.array(columns[3], dtype=np.float64),
            np.ones(len(entries), dtype=np.int64),
            np.array([b or 0.0 for b in columns[4]], dtype=np.float64),
            np.array([b is not None for b in columns[4]], dtype=np.int64),
        )

    @classmethod
    def merged(cls, parts: Sequence[Losses]) -> Losses:
        """Return the losses of several ranks together."""
        joined: Losses = _joined(cls, parts)
        if not len(joined.steps):
            return joined
        order = np.lexsort((joined.numbers, joined.names, joined.steps))
        keys = np.stack([getattr(joined, name)[order].astype(np.uint64) for name in ("steps", "names", "numbers")])
        starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(0)))
        with np.errstate(over="ignore", invalid="ignore"):
            added = [
                np.add.reduceat(getattr(joined, name)[order], starts)
                for name in ("totals", "counts", "baselines", "known")
            ]
        return cls(*(getattr(joined, name)[order][starts] for name in ("steps", "names", "numbers")), *added)

    def means(self) -> list[tuple[int, int, int, float, float | None]]:
        """Return (step, name, how many ranks, mean value, mean baseline where every rank knows one)."""
        rows = zip(*(getattr(self, field.name).tolist() for field in fields(self)), strict=True)
        return [
            (step, name, count, total / count, baseline / count if known == count else None)
            for step, name, _, total, count, baseline, known in rows
        ]


@dataclass(frozen=True, eq=False)
class Prints:
    """Fingerprints of replicated parameters, by name: the lowest rank's, which that is, and whether others differ."""

    names: Column
    prints: Column
    ranks: Column
    counts: Column
    differ: Column

    @classmethod
    def of_rank(cls, rank: int, prints: dict[int, int]) -> Prints:
        """Return those of one rank."""
        return cls(
            np.array(list(prints), dtype=np.uint64),
            np.array(list(prints.values()), dtype=np.uint64),
            np.full(len(prints), rank, dtype=np.int32),
            np.ones(len(prints), dtype=np.int32),
            np.zeros(len(prints), dtype=np.bool_),
        )

    @classmethod
    def merged(cls, parts: Sequence[Prints]) -> Prints:
        """Return those of several ranks together."""
        joined: Prints = _joined(cls, parts)
        if not len(joined.names):
            return joined
        order = np.lexsort((joined.ranks, joined.names))
        names, prints, differ = joined.names[order], joined.prints[order], joined.differ[order]
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
        first = np.repeat(starts, np.diff(np.append(starts, len(names))))
        return cls(
            names[starts],
            prints[starts],
            joined.ranks[order][starts],
            np.add.reduceat(joined.counts[order], starts),
            np.logical_or.reduceat(differ | (prints != prints[first]), starts),
        )


_LOSSES = [field.name for field in fields(Losses)]
_GROUPS: dict[str, tuple[Sequence[str], str]] = {  # columns and the kinds of their dtypes
    "rows": (Rows.COLUMNS, "uuibiibii"),
    "objectives": (_LOSSES, "iuififi"),
    "calls": (_LOSSES, "iuififi"),
    "prints": ([field.name for field in fields(Prints)], "uuiib"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """Numbers of one step. `records` has a row of `RECORD` for each rank, in their order."""

    step: int
    rows: Rows
    objectives: Losses
    calls: Losses
    prints: Prints
    records: Column

    @classmethod
    def merged(cls, parts: Sequence[Part]) -> Part:
        """Return the numbers of several ranks together; those of the first one's step."""
        records = np.concatenate([part.records for part in parts])
        return cls(
            parts[0].step,
            Rows.merged([part.rows for part in parts]),
            Losses.merged([part.objectives for part in parts]),
            Losses.merged([part.calls for part in parts]),
            Prints.merged([part.prints for part in parts]),
            records[np.argsort(records[:, 0], kind="stable")],
        )

    def record(self, name: str) -> npt.NDArray[np.float64]:
        """Return one column of the records, in the order of the ranks."""
        column: npt.NDArray[np.float64] = self.records[:, RECORD.index(name)]
        return column

    def to_bytes(self) -> bytes:
        """Return this as bytes."""
        arrays = {"step": np.array([self.step]), "records": self.records}
        arrays |= {f"rows_{name}": getattr(self.rows, name) for name in Rows.COLUMNS}
        arrays |= {f"table_{name}": narrow(getattr(self.rows.table, name)) for name in SummaryTable.__slots__}
        for group in ("objectives", "calls", "prints"):
            columns = getattr(self, group)
            arrays |= {f"{group}_{field.name}": getattr(columns, field.name) for field in fields(columns)}
        return pack(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Part:
        """Rebuild what `to_bytes` wrote; raises PackingError for anything else."""
        arrays = unpack(data)
        try:
            columns = {name: _columns(name, arrays) for name in _GROUPS}
            table = SummaryTable(*(arrays[f"table_{name}"] for name in SummaryTable.__slots__))
            check_table(table)
            records, steps = arrays["records"], arrays["step"]
        except KeyError as error:
            raise PackingError(f"there is no column {error}") from None
        except ValueError as error:
            raise PackingError(str(error)) from None
        rows = Rows.made(columns["rows"], _widened(table))
        objectives, calls = (Losses(*columns[name]) for name in ("objectives", "calls"))
        fitting = len(rows) == len(table) and not (rows.roles >= len(ROLES)).any()
        fitting &= not any((each.counts < 1).any() for each in (objectives, calls))
        fitting &= records.dtype.kind == "f" and records.shape[1:] == (len(RECORD),) and len(records) > 0
        if not (fitting and steps.dtype.kind == "i" and steps.size == 1):
            raise PackingError("columns do not fit together")
        return cls(int(steps.item()), rows, objectives, calls, Prints(*columns["prints"]), records)


def _columns(group: str, arrays: Arrays) -> list[Column]:
    """Return the columns of a group, which must be of their kinds and one length."""
    names, kinds = _GROUPS[group]
    columns = [arrays[f"{group}_{name}"] for name in names]
    if any(column.dtype.kind != kind for column, kind in zip(columns, kinds, strict=True)):
        raise ValueError(f"{group} are not of their kinds")
    if {column.shape for column in columns} != {(columns[0].size,)}:
        raise ValueError(f"{group} are not of one length")
    return columns


def _widened(table: SummaryTable) -> SummaryTable:
    """Return a table with the types that merging adds up in."""
    return replace(
        table,
        numbers=table.numbers.astype(np.float64, copy=False),
        counts=table.counts.astype(np.int64, copy=False),
        starts=table.starts.astype(np.int64, copy=False),
        unit_starts=table.unit_starts.astype(np.int64, copy=False),
    )


def narrow(array: Column) -> Column:
    """Return the same numbers in the smallest type that holds each of them: counts, and extremes of float32 tensors."""
    if not array.size or array.dtype.kind in "bu":
        return array
    if array.dtype.kind == "i":  # stays signed, as in every table
        most = max(int(array.max()), -1 - int(array.min()))
        return array.astype(np.min_scalar_type(-1 - most), copy=False)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    return single if np.array_equal(single, array, equal_nan=True) else array


def _joined(kind: type[Any], parts: Sequence[Any]) -> Any:
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))
