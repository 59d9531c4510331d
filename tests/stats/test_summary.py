"""Summaries merge in any order and lose nothing; their quantiles stay within 1/16."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats.reference import summarise
from unstuck.stats.summary import (
    BINS,
    BINS_PER_OCTAVE,
    EDGES,
    OCTAVES,
    TensorSummary,
    UnitSummary,
    empty_histogram,
)

EXACT = ("count", "nonfinite", "zeros", "outside", "minimum", "maximum")
UNITS = 3
INTERVAL = (-2.0845, 2.0845)

anything = st.one_of(
    st.floats(-1e30, 1e30),
    st.floats(-3, 3),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, -5e-324, 2.0**-32, 2.0**32]),
)
rows = st.lists(st.lists(anything, min_size=UNITS, max_size=UNITS), max_size=5)
moderate = st.floats(2.0**-31, 2.0**31).flatmap(lambda x: st.sampled_from([x, -x]))


@st.composite
def summaries(draw, *, with_units=True) -> TensorSummary:
    x = torch.tensor(draw(rows), dtype=torch.float64).reshape(-1, UNITS)
    return summarise(x, unit_dim=1 if with_units else None, interval=INTERVAL)


def assert_same(a: TensorSummary | UnitSummary, b: TensorSummary | UnitSummary) -> None:
    for name in EXACT:
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    largest = np.maximum(np.abs(a.minimum), np.abs(a.maximum))
    scale = np.where(np.isfinite(largest), largest, 0.0)
    assert np.all(np.abs(a.total - b.total) <= 1e-12 * scale)
    assert np.allclose(a.squares, b.squares, rtol=1e-12, atol=0)
    if isinstance(a, TensorSummary) and isinstance(b, TensorSummary):
        assert np.array_equal(a.histogram, b.histogram)
        assert (a.units is None) == (b.units is None)
        if a.units is not None and b.units is not None:
            assert_same(a.units, b.units)


def of(*values: float) -> TensorSummary:
    return summarise(torch.tensor(values, dtype=torch.float64), interval=INTERVAL)


class TestEdges:
    def test_they_span_64_octaves_in_eighths(self):
        assert len(EDGES) == 2 * OCTAVES * BINS_PER_OCTAVE + 1 == BINS - 1
        assert (EDGES[0], EDGES[-1]) == (2.0**-OCTAVES, 2.0**OCTAVES)

    def test_the_bins_of_an_octave_are_equally_wide(self):
        for k, edge in enumerate(EDGES):
            octave, eighth = divmod(k, BINS_PER_OCTAVE)
            assert Fraction(float(edge)) == Fraction(2) ** (octave - OCTAVES) * (1 + Fraction(eighth, 8)), k

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_all_are_exact_in_narrow_types(self, dtype):
        assert np.array_equal(torch.from_numpy(EDGES).to(dtype).double().numpy(), EDGES)

    def test_an_edge_opens_its_bin(self):
        for k in (0, 1, 7, 8, 255, 256, 257, 512):
            edge = float(EDGES[k])
            assert of(edge).histogram[1, k + 1] == 1
            assert of(-edge).histogram[0, k + 1] == 1
            assert of(math.nextafter(edge, 0)).histogram[1, k] == 1


class TestMerge:
    @given(summaries(), summaries(), summaries())
    def test_it_is_associative(self, a, b, c):
        assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))

    @given(summaries(), summaries())
    def test_it_is_commutative(self, a, b):
        assert_same(a.merge(b), b.merge(a))

    @given(summaries().filter(lambda s: s.count))
    def test_empty_is_neutral(self, a):
        for merged in (a.merge(TensorSummary.empty()), TensorSummary.empty().merge(a)):
            assert_same(merged, a)
            assert (merged.total, merged.squares) == (a.total, a.squares)

    @given(rows, rows)
    def test_it_equals_the_summary_of_both_tensors(self, a, b):
        x, y = (torch.tensor(r, dtype=torch.float64).reshape(-1, UNITS) for r in (a, b))
        parts = [summarise(t, unit_dim=1, interval=INTERVAL) for t in (x, y)]
        assert_same(parts[0].merge(parts[1]), summarise(torch.cat([x, y]), unit_dim=1, interval=INTERVAL))

    def test_it_changes_neither_side(self):
        a, b = of(1.0, 2.0), of(3.0)
        before = a.histogram.copy(), b.histogram.copy()
        a.merge(b)
        assert np.array_equal(a.histogram, before[0])
        assert np.array_equal(b.histogram, before[1])

    def test_units_are_dropped_when_one_side_has_none_or_another_number(self):
        three, two = (summarise(torch.ones(4, n), unit_dim=1) for n in (3, 2))
        assert three.merge(two).units is None
        assert three.merge(summarise(torch.ones(4, 3))).units is None
        assert three.merge(two).count == 20

    def test_different_numbers_of_units_do_not_merge(self):
        three, two = (summarise(torch.ones(4, n), unit_dim=1).units for n in (3, 2))
        with pytest.raises(ValueError, match=r"^cannot merge summaries of 3 and 2 units$"):
            three.merge(two)


class TestUnits:
    @given(summaries(), summaries(), summaries())
    def test_merging_units_is_associative_and_commutative(self, a, b, c):
        one, two, three = a.units, b.units, c.units
        assert_same(one.merge(two).merge(three), one.merge(two.merge(three)))
        assert_same(one.merge(two), two.merge(one))

    def test_a_unit_is_saturated_only_when_every_element_is_outside_in_both(self):
        x = summarise(torch.tensor([[5.0, 5.0, 0.0]]), unit_dim=1, interval=INTERVAL)
        y = summarise(torch.tensor([[-5.0, 0.0, 5.0]]), unit_dim=1, interval=INTERVAL)
        assert x.units.saturated.tolist() == [True, True, False]
        assert x.merge(y).units.saturated.tolist() == [True, False, False]

    def test_no_elements_are_not_saturated(self):
        assert summarise(torch.ones(0, 2), unit_dim=1, interval=INTERVAL).units.saturated.tolist() == [False, False]

    def test_a_nonfinite_element_keeps_a_unit_from_counting_as_saturated(self):
        x = torch.tensor([[5.0], [math.nan]])
        assert summarise(x, unit_dim=1, interval=INTERVAL).units.saturated.tolist() == [False]

    def test_variance_against_numpy(self):
        x = np.random.default_rng(0).normal(3, [1, 10, 0.1], (500, 3))
        units = summarise(torch.from_numpy(x), unit_dim=1).units
        assert len(units) == 3
        assert units.variance == pytest.approx(x.var(axis=0), rel=1e-9)

    def test_variance_without_finite_elements_is_nan(self):
        assert np.isnan(summarise(torch.full((2, 1), math.nan), unit_dim=1).units.variance).all()


class TestStatistics:
    def test_of_nothing(self):
        empty = TensorSummary.empty()
        assert (empty.count, empty.finite, empty.norm) == (0, 0, 0.0)
        assert (empty.minimum, empty.maximum) == (math.inf, -math.inf)
        assert all(math.isnan(v) for v in (empty.mean, empty.std, empty.rms, empty.outside_fraction))
        assert math.isnan(empty.zero_fraction)
        assert not empty.histogram.any()

    def test_against_numpy(self):
        x = np.random.default_rng(1).normal(0.5, 2, 1000)
        s = summarise(torch.from_numpy(x), interval=INTERVAL)
        assert (s.mean, s.std) == pytest.approx((x.mean(), x.std()))
        assert s.rms == pytest.approx(np.sqrt((x**2).mean()))
        assert s.norm == pytest.approx(np.linalg.norm(x))
        assert s.outside_fraction == np.mean(np.abs(x) > INTERVAL[1])

    def test_fractions_are_of_the_finite_elements(self):
        s = of(0.0, 3.0, math.nan, math.inf)
        assert (s.finite, s.zero_fraction, s.outside_fraction) == (2, 0.5, 0.5)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_mean_and_std_of_a_million_values_far_from_zero(self, sign):
        x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0)) + sign * 1000.0
        exact = x.numpy().astype(np.longdouble)
        merged = TensorSummary.empty()
        for part in x.split(99_991):
            merged = merged.merge(summarise(part))
        assert merged.mean == pytest.approx(float(exact.mean()), rel=1e-9)
        assert merged.std == pytest.approx(float(exact.std()), rel=1e-6)

    @pytest.mark.parametrize("value", [1e200, -1e308])
    def test_squares_beyond_float64_are_no_error(self, value):
        s = summarise(torch.full((3, 1), value, dtype=torch.float64), unit_dim=1)
        assert (s.rms, s.norm) == (math.inf, math.inf)
        assert math.isnan(s.std)
        assert np.isnan(s.units.variance).all()

    def test_equal_values_have_no_spread(self):
        assert summarise(torch.full((1000,), 0.1)).std == pytest.approx(0, abs=1e-8)


class TestQuantile:
    @pytest.mark.parametrize("q", [0, 0.001, 0.05, 0.5, 0.95, 0.999, 1])
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_log_normal_numbers_within_a_sixteenth(self, q, scale):
        x = np.random.default_rng(2).lognormal(0, 2, 20_000) * scale
        exact = np.quantile(x, q, method="inverted_cdf")
        assert summarise(torch.from_numpy(x)).quantile(q) == pytest.approx(exact, rel=1 / 16)
        assert summarise(torch.from_numpy(-x)).quantile(1 - q) == pytest.approx(-exact, rel=1 / 8)

    @given(st.lists(st.one_of(moderate, st.just(0.0)), min_size=1, max_size=60), st.floats(0, 1))
    def test_any_numbers_within_a_sixteenth(self, values, q):
        exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
        assert of(*values).quantile(q) == pytest.approx(exact, rel=1 / 16, abs=0)

    @given(st.lists(anything.filter(math.isfinite), min_size=1, max_size=60))
    def test_it_never_falls_and_stays_between_minimum_and_maximum(self, values):
        s = of(*values)
        points = [s.quantile(q) for q in np.linspace(0, 1, 9)]
        assert all(a <= b for a, b in pairwise(points))
        assert s.minimum <= points[0] <= points[-1] <= s.maximum

    def test_tails_beyond_the_edges(self):
        assert of(1e-300, 1e-300, 5.0).quantile(0.5) == pytest.approx(0.0, abs=1e-299)
        assert of(1.0, 1e30).quantile(1) == 1e30
        assert of(1.0, -1e30).quantile(0) == -1e30

    def test_nonfinite_values_have_no_rank(self):
        assert of(math.nan, math.inf, -math.inf, 3.0).quantile(0) == 3.0

    @pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
    def test_outside_zero_and_one(self, q):
        with pytest.raises(
            ValueError, match=rf"^a quantile needs 0 <= q <= 1 and finite values, got q={q} of 1 values$"
        ):
            of(1.0).quantile(q)

    def test_of_nothing(self):
        with pytest.raises(ValueError, match=r"got q=0\.5 of 0 values$"):
            of(math.nan).quantile(0.5)


class TestJson:
    @given(summaries(with_units=False))
    def test_round_trip(self, s):
        again = TensorSummary.from_json(json.loads(json.dumps(s.to_json(), allow_nan=False)))
        assert_same(again, s)
        assert (again.total, again.squares) == (s.total, s.squares)
        assert again.histogram.dtype == np.int64

    def test_only_filled_bins_are_written(self):
        assert of(1.0, 1.0, -1.0, 0.0).to_json()["histogram"] == [[257, 1], [BINS + 257, 2]]

    def test_nothing_has_no_extremes(self):
        data = TensorSummary.empty().to_json()
        assert (data["minimum"], data["maximum"], data["histogram"]) == (None, None, [])

    @given(summaries())
    def test_units_are_part_of_it(self, s):
        again = TensorSummary.from_json(json.loads(json.dumps(s.to_json(), allow_nan=False)))
        assert_same(again, s)


def test_an_empty_histogram_is_new_each_time():
    one = empty_histogram()
    one[0, 0] = 1
    assert empty_histogram().sum() == 0
    assert one.shape == (2, BINS)
