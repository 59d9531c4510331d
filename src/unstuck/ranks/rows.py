"""Rows of summary tables under names of sites, and how those of several ranks merge: exactly, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.stats.summary import BINS, IntArray
from unstuck.stats.table import SummaryTable
from unstuck.trace import Role

ROLES = tuple(Role)
CHUNK = 1024  # rows whose histograms are spread out at a time: 8 MB
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Rows:
    """One row each of `table`: what a site, by name (uint64), in a role (its place in `ROLES`) showed at a step.

    `one` says that the tensor is the same one on all ranks, so that they are not to be added up; `ranks` is the lowest
    rank that a row comes from, `count` how many, `equal` whether all their moments were the same to the bit. `bad` of
    these ranks had elements that are not finite, the lowest of them `first_bad` (-1: none had).
    """

    names: npt.NDArray[np.uint64]
    roles: Ints
    steps: Ints
    one: npt.NDArray[np.bool_]
    ranks: Ints
    count: Ints
    equal: npt.NDArray[np.bool_]
    bad: Ints
    first_bad: Ints
    table: SummaryTable

    COLUMNS = ("names", "roles", "steps", "one", "ranks", "count", "equal", "bad", "first_bad")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of_rank(
        cls,
        rank: int,
        names: Sequence[int],
        roles: Sequence[Role],
        steps: Sequence[int],
        one: Sequence[bool],
        table: SummaryTable,
    ) -> Rows:
        """Return the rows of one rank."""
        bad = table.counts[:, 1] > 0
        return cls(
            np.array(names, dtype=np.uint64),
            np.array([ROLES.index(role) for role in roles], dtype=np.uint8),
            np.array(steps, dtype=np.int64),
            np.array(one, dtype=np.bool_),
            np.full(len(table), rank, dtype=np.int32),
            np.ones(len(table), dtype=np.int32),
            np.ones(len(table), dtype=np.bool_),
            bad.astype(np.int32),
            np.where(bad, rank, -1).astype(np.int32),
            table,
        )

    @classmethod
    def made(cls, columns: Sequence[Any], table: SummaryTable) -> Rows:
        """Return rows made of columns, in the order of `COLUMNS`, and a table."""
        return cls(*[*columns, table])

    @classmethod
    def merged(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of several ranks together, one for each name, role and step; at least one part."""
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in cls.COLUMNS]
        joined = cls.made(columns, SummaryTable.joined([part.table for part in parts]))
        if not len(joined):
            return joined
        order = np.lexsort((joined.ranks, joined.roles, joined.names, joined.steps))
        keys = np.stack([joined.steps.astype(np.uint64), joined.names, joined.roles.astype(np.uint64)])[:, order]
        new = np.append(True, (keys[:, 1:] != keys[:, :-1]).any(0))
        return joined._grouped(order, np.flatnonzero(new))

    def _grouped(self, order: Ints, starts: Ints) -> Rows:
        """Return the rows in an order, with those from each of `starts` to the next made one."""
        sizes = np.diff(np.append(starts, len(order)))
        groups, first = np.repeat(np.arange(len(starts)), sizes), order[np.repeat(starts, sizes)]
        same = (self.table.numbers[order] == self.table.numbers[first]).all(1)
        same &= (self.table.counts[order] == self.table.counts[first]).all(1)
        none = np.iinfo(np.int32).max
        lowest_bad = np.minimum.reduceat(np.where(self.first_bad < 0, none, self.first_bad)[order], starts)
        added = ~self.one[first] | (order == first)  # of one tensor, the first stands
        columns = [getattr(self, name)[order[starts]] for name in ("names", "roles", "steps", "one", "ranks")]
        columns += [
            np.add.reduceat(self.count[order], starts),
            np.logical_and.reduceat(self.equal[order] & same, starts),
            np.add.reduceat(self.bad[order], starts),
            np.where(lowest_bad == none, -1, lowest_bad).astype(np.int32),
        ]
        return self.made(columns, summed(self.table.take(order[added].tolist()), groups[added]))


@np.errstate(over="ignore", invalid="ignore")  # sums of values near the largest float64 overflow
def summed(table: SummaryTable, groups: Ints) -> SummaryTable:
    """Return a table with one row for each group: the rows of that number, which stand together, merged.

    `groups`, shape (rows,), rises from 0 by at most 1. The same as `TensorSummary.merge`, to the bit of each sum in
    order; units are kept where all rows of a group that have any elements have the same number of them.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    numbers = np.concatenate(
        [
            np.add.reduceat(table.numbers[:, :2], starts),
            np.minimum.reduceat(table.numbers[:, 2:3], starts),
            np.maximum.reduceat(table.numbers[:, 3:], starts),
        ],
        axis=1,
    )
    bins, filled, bin_starts = _histograms(table, groups, len(starts))
    has_units, unit_starts, rows, places = _unit_places(table, groups, starts)
    total = int(unit_starts[-1])
    ends = np.full((2, total), np.inf)
    ends[1] = -np.inf
    np.minimum.at(ends[0], places, table.unit_ends[0, rows])
    np.maximum.at(ends[1], places, table.unit_ends[1, rows])
    return SummaryTable(
        numbers,
        np.add.reduceat(table.counts, starts),
        bin_starts,
        bins,
        filled,
        has_units,
        unit_starts,
        np.stack([np.bincount(places, sums[rows], total) for sums in table.unit_sums]).astype(np.float64),  # if none
        ends,
        np.stack([np.bincount(places, counts[rows], total) for counts in table.unit_counts]).astype(np.int64),
    )


def _histograms(table: SummaryTable, groups: Ints, count: int) -> tuple[npt.NDArray[np.uint16], Ints, IntArray]:
    of_bin = np.repeat(groups, np.diff(table.starts))
    bins, filled, lengths = [np.zeros(0, np.uint16)], [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
    for begin in range(0, count, CHUNK):
        size = min(CHUNK, count - begin)
        own = slice(*np.searchsorted(of_bin, [begin, begin + size]))
        flat = (of_bin[own] - begin) * (2 * BINS) + table.bins[own]
        spread = np.bincount(flat, table.filled[own], size * 2 * BINS)  # in float64, exact up to 2^53
        there = np.flatnonzero(spread)
        bins.append((there % (2 * BINS)).astype(np.uint16))
        filled.append(spread[there].astype(np.int64))
        lengths.append(np.bincount(there // (2 * BINS), minlength=size).astype(np.int64))
    return np.concatenate(bins), np.concatenate(filled), np.cumsum(np.concatenate(lengths))


def _unit_places(table: SummaryTable, groups: Ints, starts: Ints) -> tuple[npt.NDArray[np.bool_], IntArray, Ints, Ints]:
    """Return which groups keep units, where each group's begin, which unit columns count, and where they belong."""
    lengths = np.diff(table.unit_starts)
    there = table.counts[:, 0] > 0  # a row of no elements is neutral
    own = np.where(table.has_units, lengths, -1)
    most = np.maximum.reduceat(own, starts)
    least = np.minimum.reduceat(np.where(there | table.has_units, own, np.iinfo(np.int64).max), starts)
    kept = (most >= 0) & (least == most)
    unit_starts = np.concatenate([[0], np.cumsum(np.where(kept, most, 0))]).astype(np.int64)
    counted = kept[groups] & table.has_units
    of_row = np.repeat(np.arange(len(table)), lengths)
    rows = np.flatnonzero(counted[of_row])
    within = rows - table.unit_starts[of_row[rows]]
    return kept, unit_starts, rows, unit_starts[groups[of_row[rows]]] + within
