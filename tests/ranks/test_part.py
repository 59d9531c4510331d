import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from unstuck.ranks.part import RECORD, Losses, Part, Prints, narrow
from unstuck.ranks.rows import Rows
from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Role
from unstuck.trace.packing import PackingError, pack, unpack


def part(rank, value=2.0, prints=None):
    rows = Rows.of_rank(rank, [5], [Role.INPUT], [3], [False], SummaryTable.of([TensorSummary.empty()]))
    losses = Losses.of_rank([(3, 0, 0, value, None)])
    record = np.array([[rank, value, -1.0, 8.0, 9.0, 0.0, 100.0]])
    return Part(3, rows, losses, Losses.of_rank([]), Prints.of_rank(rank, prints or {}), record)


class TestLosses:
    def test_none(self):
        assert Losses.merged([Losses.of_rank([]), Losses.of_rank([])]).means() == []

    def test_a_step_that_one_rank_alone_knows(self):
        merged = Losses.merged([Losses.of_rank([(3, 0, 0, 1.0, None)]), Losses.of_rank([(4, 0, 0, 2.0, None)])])
        assert merged.means() == [(3, 0, 1, 1.0, None), (4, 0, 1, 2.0, None)]

    def test_means_over_the_ranks_and_baselines_where_all_know_one(self):
        one = Losses.of_rank([(3, 7, 0, 1.0, 2.0), (3, 7, 1, 5.0, 2.0)])
        two = Losses.of_rank([(3, 7, 1, 6.0, None), (3, 7, 0, 3.0, 4.0)])
        assert Losses.merged([one, two]).means() == [(3, 7, 2, 2.0, 3.0), (3, 7, 2, 5.5, None)]

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_finite_on_one_rank_is_not_finite(self, value):
        merged = Losses.merged([part(0).objectives, part(1, value).objectives])
        assert not math.isfinite(merged.means()[0][3])


class TestPrints:
    def test_none(self):
        assert len(Prints.merged([Prints.of_rank(0, {}), Prints.of_rank(1, {})]).names) == 0

    def test_who_differs_in_whatever_order_they_come(self):
        prints = [{1: 10, 2: 20}, {1: 10, 2: 20}, {1: 10, 2: 21}, {1: 10}]
        parts = [Prints.of_rank(rank, own) for rank, own in enumerate(prints)]
        whole = Prints.merged(parts)
        halves = Prints.merged([Prints.merged(parts[2:]), Prints.merged(parts[:2])])
        for merged in (whole, halves):
            assert merged.names.tolist() == [1, 2]
            assert merged.differ.tolist() == [False, True]
            assert merged.counts.tolist() == [4, 3]
            assert merged.prints.tolist() == [10, 20]


class TestBytes:
    def test_there_and_back(self):
        back = Part.from_bytes(part(2, prints={6: (1 << 64) - 1}).to_bytes())
        assert (back.step, back.rows.names.tolist(), back.prints.prints.tolist()) == (3, [5], [(1 << 64) - 1])
        assert back.objectives.means() == [(3, 0, 1, 2.0, None)]
        assert back.record("loss").tolist() == [2.0]

    @pytest.mark.parametrize("unit_dim", [1, None])
    def test_columns_keep_their_kinds(self, unit_dim):
        """A stored run is refused where they are others."""
        summary = summarise(torch.ones(3, 2), unit_dim=unit_dim)
        rows = Rows.of_rank(0, [5], [Role.INPUT], [3], [False], SummaryTable.of([summary]))
        own = replace(part(0), rows=rows)
        back = Part.from_bytes(Part.merged([Part.from_bytes(own.to_bytes())] * 2).to_bytes()).rows.table
        for name in SummaryTable.__slots__:
            assert getattr(back, name).dtype.kind == getattr(rows.table, name).dtype.kind, name

    def test_what_is_no_part(self):
        data = bytearray(part(0).to_bytes())
        data[-1] ^= 1
        with pytest.raises(PackingError):
            Part.from_bytes(bytes(data))

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("rows_names", None),
            ("rows_roles", np.array([200], np.uint8)),
            ("rows_roles", np.array([0, 0], np.uint8)),
            ("rows_steps", np.array([0.5])),
            ("table_starts", np.array([0, 1 << 40])),
            ("table_bins", np.array([5000], np.uint16)),
            ("table_counts", np.full((1, 4), -1)),
            ("calls_names", np.array([1], np.uint64)),
            ("objectives_counts", np.array([0])),
            ("records", np.zeros((0, len(RECORD)))),
            ("records", np.zeros((1, 2))),
            ("step", np.array([3, 4])),
            ("step", np.array([np.nan])),
        ],
    )
    def test_columns_that_do_not_fit_together(self, name, array):
        arrays = unpack(part(0).to_bytes())
        arrays.pop(name) if array is None else arrays.update({name: array})
        with pytest.raises(PackingError):
            Part.from_bytes(pack(arrays))

    @pytest.mark.parametrize(
        ("numbers", "dtype"),
        [
            ([0, 127], "int8"),
            ([-128, 127], "int8"),
            ([0, 128], "int16"),
            ([0, 1 << 40], "int64"),
            ([0.5, np.inf, np.nan], "float32"),
            ([0.1], "float64"),
            ([1e300], "float64"),
            ([True], "bool"),
            ([], "float64"),
        ],
    )
    def test_numbers_travel_in_the_smallest_type_that_holds_them(self, numbers, dtype):
        array = np.array(numbers)
        assert narrow(array).dtype == dtype
        np.testing.assert_array_equal(narrow(array), array)

    def test_records_stand_in_the_order_of_the_ranks(self):
        merged = Part.merged([Part.merged([part(2), part(3)]), part(0), part(1)])
        assert merged.record("rank").tolist() == [0, 1, 2, 3]
        assert merged.records.shape == (4, len(RECORD))
