"""Summaries in columns: what goes in comes out, whatever the counts, with and without units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats import cpu, reference
from unstuck.stats.cpu import Jobs
from unstuck.stats.summary import BINS, TensorSummary, UnitSummary, empty_histogram
from unstuck.stats.table import SummaryTable

from .compare import DTYPES, check, normal

EXACT = ("count", "nonfinite", "zeros", "outside", "total", "squares", "minimum", "maximum")
numbers = st.floats(allow_nan=True, allow_infinity=True)
counts = st.one_of(st.integers(0, 5), st.integers(2**31 - 1, 2**33), st.integers(2**52, 2**62))


@st.composite
def unit_summaries(draw, n: int, each: int) -> UnitSummary:
    floats = [np.array(draw(st.lists(numbers, min_size=n, max_size=n)), dtype=np.float64) for _ in range(4)]
    integers = [np.array(draw(st.lists(counts, min_size=n, max_size=n)), dtype=np.int64) for _ in range(3)]
    return UnitSummary(each, *floats, *integers)


@st.composite
def summaries(draw) -> TensorSummary:
    histogram = empty_histogram()
    for k, n in draw(st.dictionaries(st.integers(0, 2 * BINS - 1), counts, max_size=6)).items():
        histogram.flat[k] = n
    n = draw(st.none() | st.integers(0, 4))
    each = draw(st.integers(0, 2**34)) if n else 0
    count = draw(counts) if n is None else n * each
    units = None if n is None else draw(unit_summaries(n, each))
    return TensorSummary(count, *(draw(counts) for _ in range(3)), *(draw(numbers) for _ in range(4)), histogram, units)


tables = st.lists(summaries(), max_size=5)


def assert_same(found: TensorSummary, true: TensorSummary, *, histogram: bool = True) -> None:
    """Bit for bit, types included."""
    for name in EXACT:
        assert np.array_equal(getattr(found, name), getattr(true, name), equal_nan=True), name
        assert type(getattr(found, name)) in (int, float), name
    if histogram:
        assert np.array_equal(found.histogram, true.histogram)
        assert found.histogram.dtype == np.int64
    assert (found.units is None) == (true.units is None)
    if found.units is not None and true.units is not None:
        assert found.units.count == true.units.count
        for name in ("total", "squares", "minimum", "maximum", "zeros", "outside", "nonfinite"):
            one, other = getattr(found.units, name), getattr(true.units, name)
            assert one.dtype == other.dtype, name
            assert np.array_equal(one, other, equal_nan=one.dtype == np.float64), name


def columns(table: SummaryTable) -> list[np.ndarray]:
    return [getattr(table, name) for name in SummaryTable.__slots__]


class TestRoundTrip:
    @given(tables)
    def test_each_summary_comes_back(self, kept):
        table = SummaryTable.of(kept)
        assert len(table) == len(kept)
        for row, summary in enumerate(kept):
            assert_same(table.summary(row), summary)

    @given(tables)
    def test_each_column_comes_back(self, kept):
        table = SummaryTable.of(kept)
        again = SummaryTable.of([table.summary(row) for row in range(len(table))])
        for one, other in zip(columns(table), columns(again), strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")

    @given(tables)
    def test_what_the_shapes_promise(self, kept):
        table = SummaryTable.of(kept)
        assert table.numbers.shape == table.counts.shape == (len(kept), 4)
        assert len(table.starts) == len(table.unit_starts) == len(kept) + 1
        assert table.starts[-1] == len(table.bins) == len(table.filled)
        width = int(table.unit_starts[-1])
        assert [a.shape for a in (table.unit_sums, table.unit_ends, table.unit_counts)] == [
            (2, width),
            (2, width),
            (3, width),
        ]
        assert table.nbytes == sum(a.nbytes for a in columns(table))

    @given(summaries())
    def test_without_the_histogram_the_rest_is_the_same(self, summary):
        found = SummaryTable.of([summary]).summary(0, histogram=False)
        assert_same(found, summary, histogram=False)
        assert found.histogram.shape == (2, 0)

    def test_rows_do_not_mix(self):
        x = normal(6, 3)
        parts = [
            reference.summarise(x, unit_dim=1),
            reference.summarise(x * 100),
            reference.summarise(x[:0], unit_dim=1),
            reference.summarise(-x, unit_dim=0, interval=(0.0, 1.0)),
            reference.summarise(x[:, :0], unit_dim=1),
        ]
        table = SummaryTable.of(parts)
        assert [s.units is None for s in map(table.summary, range(5))] == [False, True, False, False, False]
        assert [len(table.summary(k).units) for k in (0, 2, 3, 4)] == [3, 3, 6, 0]
        for row, part in enumerate(parts):
            assert_same(table.summary(row), part)

    def test_a_summary_can_be_changed_without_changing_the_table(self):
        table = SummaryTable.of([reference.summarise(torch.tensor([1.0, -2.0]))])
        table.summary(0).histogram[:] = 7
        assert table.summary(0).histogram.sum() == 2

    def test_a_summary_keeps_no_memory_of_the_table(self):
        table = SummaryTable.of([reference.summarise(normal(6, 3), unit_dim=1)])
        kept = [a for a in vars(table.summary(0).units).values() if isinstance(a, np.ndarray)]
        assert len(kept) == 7
        assert not any(np.shares_memory(a, column) for a in kept for column in columns(table))


class TestNothing:
    def test_no_rows(self):
        table = SummaryTable.of([])
        assert (len(table), table.counts.shape, table.unit_counts.shape) == (0, (0, 4), (3, 0))
        with pytest.raises(IndexError):
            table.summary(0)

    def test_no_elements(self):
        assert_same(SummaryTable.of([TensorSummary.empty()]).summary(0), TensorSummary.empty())

    def test_no_units_are_not_the_same_as_none(self):
        with_units, without = (reference.summarise(torch.zeros(0), unit_dim=d) for d in (0, None))
        table = SummaryTable.of([with_units, without])
        assert len(table.summary(0).units) == 0
        assert table.summary(1).units is None


class TestLargeCounts:
    @pytest.mark.parametrize("count", [2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**62])
    def test_no_counter_overflows(self, count):
        histogram = empty_histogram()
        histogram[1, 300] = count
        one = np.array([1.0])
        units = UnitSummary(count, one, one, one, one, *(np.array([count]) for _ in range(3)))
        summary = TensorSummary(count, count, count, count, 1.0, 1.0, 1.0, 1.0, histogram, units)
        table = SummaryTable.joined([SummaryTable.of([summary]), SummaryTable.of([summary])])
        for row in range(2):
            assert_same(table.summary(row), summary)

    def test_merging_rows_of_the_compiled_pass(self):
        """Its own columns have 32 bits."""
        jobs = Jobs(torch.float32)
        x = torch.ones(3, 2)
        jobs.add(x.data_ptr(), (3, 2, 1), with_units=True)
        narrow = jobs.summaries()
        narrow.filled[:] = narrow.unit_counts[:] = 2**31 - 1
        twice = narrow.summary(0).merge(narrow.summary(0))
        assert twice.histogram.sum() == twice.units.zeros[0] == 2**32 - 2


class TestMerged:
    @given(
        st.lists(st.integers(0, 4), min_size=1, max_size=6),
        st.integers(0, 3),
        st.sampled_from([None, 1]),
        st.sampled_from(DTYPES),
        st.data(),
    )
    def test_it_is_what_merging_the_summaries_gives(self, lengths, units, unit_dim, dtype, data):
        tensors = [normal(n, units, seed=k).to(dtype) for k, n in enumerate(lengths)]
        jobs = Jobs(dtype)
        for x in tensors:
            jobs.add(x.data_ptr(), (len(x), units, 1), (-0.5, 0.5), with_units=unit_dim is not None)
        first = data.draw(st.integers(0, len(tensors) - 1))
        end = data.draw(st.integers(first + 1, len(tensors)))
        merged = jobs.summaries().merged(first, end)
        assert len(merged) == 1
        check(merged.summary(0), torch.cat(tensors[first:end]), unit_dim=unit_dim, interval=(-0.5, 0.5))

    def test_more_elements_than_32_bits_can_count(self):
        x, jobs = torch.ones(3, 2), Jobs(torch.float32)
        for _ in range(3):
            jobs.add(x.data_ptr(), (3, 2, 1), with_units=True)
        table = jobs.summaries()
        for counted in (table.filled, table.counts, table.unit_counts):
            counted[:] = 2**31 - 1
        merged = table.merged(0, 3).summary(0)
        expected = 3 * (2**31 - 1)
        assert merged.count == merged.nonfinite == merged.histogram.sum() == merged.units.outside[1] == expected


class TestJoined:
    @given(st.lists(tables, min_size=1, max_size=4))
    def test_it_is_the_table_of_all(self, parts):
        joined = SummaryTable.joined([SummaryTable.of(part) for part in parts])
        whole = SummaryTable.of([summary for part in parts for summary in part])
        for one, other in zip(columns(joined), columns(whole), strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")

    def test_one_table_is_itself(self):
        table = SummaryTable.of([TensorSummary.empty()])
        assert SummaryTable.joined([table]) is table

    def test_tables_that_were_computed_in_different_types(self):
        tensors = [normal(5, 4, seed=k).to(dtype) / 3 for k, dtype in enumerate(DTYPES)]
        parts = []
        for x in tensors:
            jobs = Jobs(x.dtype)
            jobs.add(x.data_ptr(), (5, 4, 1), with_units=True)
            parts.append(jobs.summaries())
        kept = reference.summarise(normal(2, 3), unit_dim=0)
        joined = SummaryTable.joined([SummaryTable.of([kept]), *parts, SummaryTable.of([])])
        assert_same(joined.summary(0), kept)
        for row, x in enumerate(tensors, start=1):
            check(joined.summary(row), x, unit_dim=1)


def test_its_size_follows_what_is_filled():
    """A dense histogram takes 8,224 bytes."""
    few, many = (SummaryTable.of([cpu.summarise(x)]) for x in (torch.ones(10_000), normal(10_000)))
    assert few.nbytes < 200
    assert few.nbytes + 100 < many.nbytes < 4_000


def test_extremes_of_nothing_are_infinite():
    found = SummaryTable.of([reference.summarise(torch.full((2, 1), math.nan), unit_dim=1)]).summary(0)
    assert (found.minimum, found.maximum) == (math.inf, -math.inf)
    assert (found.units.minimum[0], found.units.maximum[0]) == (math.inf, -math.inf)
