"""Merged rows are those of `TensorSummary.merge`, one rank after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.ranks.rows import ROLES, Rows, summed
from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Role


def summary(seed, rows, units, spoiled=False):
    x = torch.randn(rows, units or 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2.0**seed
    if spoiled and rows:
        x[0, 0] = torch.nan
    return summarise(x, unit_dim=1 if units else None, interval=(-1.0, 1.0))


def same(ours, theirs):
    for name in ("count", "nonfinite", "zeros", "outside", "minimum", "maximum"):
        assert getattr(ours, name) == getattr(theirs, name), name
    np.testing.assert_array_equal(ours.histogram, theirs.histogram)
    np.testing.assert_allclose([ours.total, ours.squares], [theirs.total, theirs.squares], rtol=1e-14)
    assert (ours.units is None) == (theirs.units is None)
    if theirs.units is not None:
        assert ours.units.count == theirs.units.count
        for name in ("minimum", "maximum", "zeros", "outside", "nonfinite", "saturated"):
            np.testing.assert_array_equal(getattr(ours.units, name), getattr(theirs.units, name))
        np.testing.assert_allclose(ours.units.total, theirs.units.total, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.units.squares, theirs.units.squares, rtol=1e-12)


def rows_of(rank, names, summaries, one=False, role=Role.INPUT, step=3):
    count = len(names)
    return Rows.of_rank(rank, names, [role] * count, [step] * count, [one] * count, SummaryTable.of(summaries))


ENTRIES = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(1, 9), st.sampled_from([0, 1, 4]), st.booleans())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry[0]), min_size=1, max_size=5))
def test_as_the_summaries_one_after_the_other(ranks):
    parts, naive = [], {}
    for rank, entries in enumerate(ranks):
        summaries = [summary(seed, count, units, spoiled) for _, seed, count, units, spoiled in entries]
        parts.append(rows_of(rank, [name for name, *_ in entries], summaries))
        for (name, *_), own in zip(entries, summaries, strict=True):
            naive.setdefault(name, []).append((rank, own))
    merged = Rows.merged(parts)
    assert merged.names.tolist() == sorted(naive)
    for row, name in enumerate(merged.names.tolist()):
        expected, lengths = TensorSummary.empty(), set()
        for _, own in naive[name]:
            expected = expected.merge(own)
            lengths.add(None if own.units is None else len(own.units))
        ours = merged.table.summary(row)
        if len(lengths) > 1:
            assert ours.units is None
            ours, expected = (TensorSummary(**{**vars(s), "units": None}) for s in (ours, expected))
        same(ours, expected)
        bad = [rank for rank, own in naive[name] if own.nonfinite]
        assert (merged.bad[row], merged.first_bad[row]) == (len(bad), bad[0] if bad else -1)
        assert (merged.ranks[row], merged.count[row]) == (naive[name][0][0], len(naive[name]))


def test_the_order_of_merging_changes_nothing():
    parts = [rows_of(rank, [7, 2], [summary(rank, 4, 4), summary(1, 2, 0)]) for rank in range(4)]
    whole = Rows.merged(parts)
    halves = Rows.merged([Rows.merged(parts[:2]), Rows.merged(parts[2:])])
    for row in range(2):
        same(halves.table.summary(row), whole.table.summary(row))


def test_one_tensor_on_all_ranks_is_counted_once():
    own = summary(1, 4, 0)
    merged = Rows.merged([rows_of(rank, [9], [own], one=True, role=Role.VALUE) for rank in range(3)])
    same(merged.table.summary(0), own)
    assert (merged.equal[0], merged.count[0], ROLES[merged.roles[0]]) == (True, 3, Role.VALUE)


def test_of_one_tensor_that_is_not_the_same_the_lowest_rank_stands_and_it_is_known():
    merged = Rows.merged([rows_of(rank, [9], [summary(rank, 4, 0)], one=True) for rank in (2, 1)])
    same(merged.table.summary(0), summary(1, 4, 0))
    assert not merged.equal[0]


def test_a_unit_is_dead_only_where_it_is_dead_on_all_ranks():
    x = torch.full((5, 3), 4.0, dtype=torch.float64)
    alive = x.clone()
    alive[2, 1] = 0.0
    parts = [rows_of(n, [1], [summarise(t, unit_dim=1, interval=(-1.0, 1.0))]) for n, t in enumerate((x, alive))]
    assert Rows.merged(parts).table.summary(0).units.saturated.tolist() == [True, False, True]


def test_other_steps_and_roles_stay_apart():
    own = summary(1, 4, 0)
    parts = [rows_of(0, [9], [own]), rows_of(1, [9], [own], step=4), rows_of(2, [9], [own], role=Role.OUTPUT)]
    assert len(Rows.merged(parts)) == 3


def test_nothing_at_all():
    assert len(Rows.merged([rows_of(0, [], [])])) == 0


@pytest.mark.parametrize("groups", [1, 1023, 1024, 1025, 2100])
def test_many_groups_are_spread_out_piece_by_piece(groups):
    own = [summary(n % 5, 2, 0) for n in range(5)]
    table = SummaryTable.of([own[n % 5] for n in range(groups) for _ in range(2)])
    merged = summed(table, np.repeat(np.arange(groups), 2))
    for row in {0, groups // 2, groups - 1}:
        same(merged.summary(row), own[row % 5].merge(own[row % 5]))
