"""The torch reference against loops over Python floats."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats.reference import identical_units, summarise
from unstuck.stats.summary import BINS, EDGES, TensorSummary, UnitSummary

ODD = [math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, -1e-310, 1e-40, 1.0, -1.0, 2.0**-32, 2.0**32, 7e30, -3.5]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTERVAL = (-1.5, 2.0)


def naive(values: Iterable[float], interval: tuple[float, float] | None = None) -> dict[str, object]:
    """Every field of a summary, one element at a time."""
    values = list(values)
    finite = [v for v in values if math.isfinite(v)]
    histogram = np.zeros((2, BINS), dtype=np.int64)
    for v in finite:
        if v:
            histogram[int(v > 0), bisect_right(EDGES, abs(v))] += 1
    return {
        "count": len(values),
        "nonfinite": len(values) - len(finite),
        "zeros": sum(v == 0 for v in finite),
        "outside": 0 if interval is None else sum(v < interval[0] or v > interval[1] for v in finite),
        "minimum": min(finite, default=math.inf),
        "maximum": max(finite, default=-math.inf),
        "total": math.fsum(finite),
        "squares": math.fsum(v * v for v in finite),
        "histogram": histogram,
    }


def check(summary: TensorSummary, values: Iterable[float], interval: tuple[float, float] | None = None) -> None:
    expected = naive(values, interval)
    for name in ("count", "nonfinite", "zeros", "outside", "minimum", "maximum"):
        assert getattr(summary, name) == expected[name], name
    scale = math.sqrt(expected["squares"]) or 1.0
    assert summary.total == pytest.approx(expected["total"], rel=1e-12, abs=1e-12 * scale)
    assert summary.squares == pytest.approx(expected["squares"], rel=1e-12)
    assert np.array_equal(summary.histogram, expected["histogram"])


def check_units(units: UnitSummary | None, rows: np.ndarray, interval: tuple[float, float] | None = None) -> None:
    """`rows` has shape (units, elements)."""
    assert units is not None
    assert units.count == rows.shape[1]
    expected = [naive(row.tolist(), interval) for row in rows]
    for name in ("zeros", "outside", "nonfinite", "minimum", "maximum"):
        assert getattr(units, name).tolist() == [e[name] for e in expected], name
    for name in ("total", "squares"):
        assert getattr(units, name) == pytest.approx([e[name] for e in expected], rel=1e-12, abs=1e-12), name


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestSummarise:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_odd_values_in_every_dtype(self, dtype):
        x = torch.tensor(ODD, dtype=torch.float64).to(dtype)
        check(summarise(x, interval=INTERVAL), x.double().tolist(), INTERVAL)

    @given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=40))
    def test_any_float32(self, values):
        check(summarise(torch.tensor(values, dtype=torch.float32), interval=INTERVAL), values, INTERVAL)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
    def test_integers_are_read_as_float64(self, dtype):
        x = torch.tensor([0, 1, 1, 3, 200]).to(dtype)
        check(summarise(x), [float(v) for v in x.tolist()])

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
    def test_nothing(self, shape):
        check(summarise(torch.empty(shape)), [])

    def test_only_nonfinite(self):
        check(summarise(torch.tensor([math.nan, math.inf])), [math.nan, math.inf])

    @pytest.mark.parametrize("unit_dim", [None, 0, -1])
    def test_a_single_number_has_no_units(self, unit_dim):
        s = summarise(torch.tensor(-2.5), unit_dim=unit_dim, interval=INTERVAL)
        check(s, [-2.5], INTERVAL)
        assert s.units is None

    def test_ten_thousand_normal_numbers(self):
        x = normal(100, 100)
        check(summarise(x, interval=INTERVAL), x.double().flatten().tolist(), INTERVAL)

    def test_subnormal_numbers_are_not_zeros(self):
        x = torch.tensor([1e-40, -1e-45], dtype=torch.float32)
        s = summarise(x)
        assert (s.zeros, s.histogram[0, 0], s.histogram[1, 0]) == (0, 1, 1)

    def test_both_zeros_are_zeros_and_in_no_bin(self):
        s = summarise(torch.tensor([0.0, -0.0]))
        assert (s.zeros, s.histogram.sum()) == (2, 0)

    def test_strides_do_not_matter(self):
        x = normal(6, 8)
        for view in (x.t(), x[::2, ::3], x.flip(0), x[:1].expand(5, 8)):
            check(summarise(view), view.double().flatten().tolist())


class TestInterval:
    def test_its_ends_are_inside(self):
        x = torch.tensor([-1.5, 2.0, math.nextafter(-1.5, -9), math.nextafter(2.0, 9)], dtype=torch.float64)
        assert summarise(x, interval=INTERVAL).outside == 2

    def test_an_open_end_has_nothing_outside(self):
        assert summarise(torch.tensor([-1.0, 0.0, 1e30]), interval=(0.0, math.inf)).outside == 1

    def test_none_counts_nothing(self):
        assert summarise(torch.tensor([1e30])).outside == 0

    def test_nonfinite_elements_are_neither_in_nor_out(self):
        assert summarise(torch.tensor([math.inf, -math.inf, math.nan]), interval=INTERVAL).outside == 0


class TestUnits:
    @pytest.mark.parametrize("unit_dim", [1, -1])
    def test_features_last(self, unit_dim):
        x = normal(7, 5)
        s = summarise(x, unit_dim=unit_dim, interval=INTERVAL)
        check(s, x.double().flatten().tolist(), INTERVAL)
        check_units(s.units, x.double().numpy().T, INTERVAL)

    @pytest.mark.parametrize("unit_dim", [1, -3])
    def test_channels_first(self, unit_dim):
        x = normal(4, 3, 6, 5)
        rows = x.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
        check_units(summarise(x, unit_dim=unit_dim, interval=INTERVAL).units, rows, INTERVAL)

    @pytest.mark.parametrize("unit_dim", [0, -2])
    def test_units_first(self, unit_dim):
        x = normal(3, 9)
        check_units(summarise(x, unit_dim=unit_dim).units, x.double().numpy())

    def test_odd_values_are_told_apart_by_unit(self):
        x = torch.tensor([[math.nan, 0.0, 5.0], [1.0, -0.0, math.inf]])
        check_units(summarise(x, unit_dim=1, interval=INTERVAL).units, x.double().numpy().T, INTERVAL)

    def test_an_empty_batch_has_units_without_elements(self):
        units = summarise(torch.empty(0, 4), unit_dim=1).units
        assert (len(units), units.count) == (4, 0)
        assert units.minimum.tolist() == [math.inf] * 4


class TestOnlyReads:
    def test_input_gradient_state_and_rng_are_untouched(self):
        x = normal(50, 3).requires_grad_()
        y = x * 2
        before, version, state = y.detach().clone(), y._version, torch.get_rng_state()
        summarise(y, unit_dim=1, interval=INTERVAL)
        identical_units(y, 1)
        assert torch.equal(y, before)
        assert y._version == version
        assert torch.equal(torch.get_rng_state(), state)
        y.sum().backward()
        assert torch.equal(x.grad, torch.full_like(x, 2))

    def test_the_summary_does_not_follow_later_changes(self):
        x = torch.ones(4, 2, dtype=torch.float64)
        s = summarise(x, unit_dim=1)
        x.zero_()
        assert s.units.total.tolist() == [4, 4]


class TestIdenticalUnits:
    @staticmethod
    def naive(x: np.ndarray) -> int:
        return sum(any(i != j and np.array_equal(a, b) for j, b in enumerate(x)) for i, a in enumerate(x))

    def test_random_units_differ(self):
        assert identical_units(normal(20, 4), 0) == 0

    def test_one_unit_has_no_other(self):
        assert identical_units(torch.ones(1, 4), 0) == 0

    def test_all_alike(self):
        assert identical_units(torch.zeros(6, 4), 0) == 6

    @given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2), min_size=1, max_size=9))
    def test_against_comparing_each_pair(self, rows):
        x = torch.tensor(rows)
        assert identical_units(x, 0) == self.naive(x.numpy())
        assert identical_units(x.t(), 1) == self.naive(x.numpy())

    def test_two_groups(self):
        x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [1.0, 2.0], [9.0, 9.0]])
        assert identical_units(x, 0) == 5
        assert identical_units(x.t(), -1) == 5

    def test_channels_of_a_convolution(self):
        x = normal(4, 3, 2, 2)
        x[2] = x[0]
        assert identical_units(x, 0) == 2
        assert identical_units(x, 1) == 0
