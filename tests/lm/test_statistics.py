from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.lm.statistics import Estimate, estimate, quantile, within

# Two-sided 95 % and 99 % points of Student's t: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 15: 2.131, 30: 2.042, 100: 1.984}
TABLE_99 = {1: 63.657, 2: 9.925, 7: 3.499, 30: 2.750}


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_one_value_has_no_interval_and_claims_nothing() -> None:
    found = estimate([2.1])
    assert found.mean == 2.1
    assert math.isnan(found.half)
    assert math.isnan(found.one_run)
    assert not found.holds("2.1")
    assert not found.holds_run("2.1")
    assert found.sign == 0


def test_a_run_that_diverged_leaves_no_interval() -> None:
    found = estimate([2.1, math.nan, 2.2])
    assert math.isnan(found.mean)
    assert found.sign == 0


@pytest.mark.parametrize(("degrees", "point"), TABLE.items())
def test_quantile_is_that_of_the_tables(degrees: int, point: float) -> None:
    assert quantile(degrees) == pytest.approx(point, abs=5.1e-4)


@pytest.mark.parametrize(("degrees", "point"), TABLE_99.items())
def test_other_levels(degrees: int, point: float) -> None:
    assert quantile(degrees, 0.99) == pytest.approx(point, abs=5.1e-4)


def test_many_degrees_are_a_normal_distribution() -> None:
    assert quantile(100_000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-4)


@given(st.integers(1, 40), st.floats(0, 50))
def test_within_is_the_integral_of_the_density(degrees: int, t: float) -> None:
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    count = 1000  # Simpson's rule in the angle, where the integrand is smooth: x = tan(u)
    end = math.atan(t)

    def density(u: float) -> float:
        x = math.tan(u)
        return scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2) * (1 + x * x)

    step = end / count
    inner = sum((4 if k % 2 else 2) * density(k * step) for k in range(1, count))
    assert within(t, degrees) == pytest.approx(2 * step / 3 * (density(0) + inner + density(end)), abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_intervals_by_the_textbook(values: list[float]) -> None:
    found = estimate(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert found.half == pytest.approx(quantile(len(values) - 1) * error, abs=1e-9)
    assert found.one_run == pytest.approx(found.half * math.sqrt(len(values) + 1), abs=1e-9)


def test_rounding_of_a_published_number_is_allowed_for() -> None:
    found = Estimate(mean=2.0760, half=0.0012, one_run=0.01)
    assert found.holds("2.07")  # may be 2.075
    assert not found.holds("2.0700")
    assert found.holds_run("2.0700")
    assert not found.holds_run("2.05")


@pytest.mark.parametrize(("mean", "half", "sign"), [(-0.02, 0.01, -1), (0.02, 0.01, 1), (0.02, 0.03, 0), (0.0, 0.0, 0)])
def test_sign_only_where_the_interval_leaves_out_0(mean: float, half: float, sign: int) -> None:
    assert Estimate(mean, half, half).sign == sign
