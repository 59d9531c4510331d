"""Work shared out among threads, tensors that are cut for it, and sums over many elements."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats import cpu, team
from unstuck.stats.cpu import Jobs, layout_of
from unstuck.stats.queue import Sample, SummaryQueue

from .compare import DTYPES, assert_equal, check, normal, threads

INTERVAL = (-0.97, 0.3)
MANY = 10_000_000
UNITS = 100
MEAN = 1e3  # times the standard deviation


def summaries(tensors, unit_dim, n):
    """Summarise tensors of one dtype by one call, with `n` threads."""
    jobs, keep = Jobs(tensors[0].dtype), []
    for x in tensors:
        address, shape, owner = layout_of(x, unit_dim)
        keep.append(owner)
        jobs.add(address, shape, INTERVAL, with_units=unit_dim is not None)
    with threads(n):
        table = jobs.summaries()
    return [table.summary(row) for row in range(len(tensors))]


@pytest.fixture
def teams(monkeypatch):
    """Note with how many threads each parallel call is made; 2^16 elements are enough for each."""
    monkeypatch.setattr(cpu, "PARALLEL_FROM", 1 << 16)
    seen, run = [], team.run
    monkeypatch.setattr(team, "run", lambda function, data, n: (seen.append(n), run(function, data, n))[1])
    return seen


LAYOUTS = {
    "along rows": (lambda: normal(3_000, 500), 1),
    "along rows of runs": (lambda: normal(64, 30, 500), 1),
    "few long rows": (lambda: normal(3, 300_000), 1),
    "anywhere": (lambda: normal(1_200_001), None),
    "anywhere, one unit": (lambda: normal(1, 1, 1_200_001), 1),
    "anywhere, in another order": (lambda: normal(1_201, 999).t(), None),
    "a single row of units": (lambda: normal(900_000), 0),
    "a single row of long units": (lambda: normal(3, 400_000), 0),
    "copied": (lambda: normal(3_000, 500)[:, ::2], 1),
}


class TestThreads:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_they_change_nothing_but_the_last_bits_of_sums(self, layout, dtype, teams):
        make, unit_dim = LAYOUTS[layout]
        x = make().to(dtype)
        x[:: -(-len(x) // 7)] = math.nan
        ((one,), (two,), (five,)) = (summaries([x], unit_dim, n) for n in (1, 2, 5))
        check(one, x, unit_dim=unit_dim, interval=INTERVAL)
        assert_equal(two, one)
        assert_equal(five, one)
        assert teams == [2, 5]

    @pytest.mark.parametrize("unit_dim", [None, 0, 1])
    def test_many_tensors_and_a_large_one_among_them(self, unit_dim, teams):
        sizes = [5, 0, 70, 900, 1, 0, 3_000, 2, 60, 0]
        tensors = [normal(n, 100 + k, seed=k) for k, n in enumerate(sizes)]
        for found, x in zip(summaries(tensors, unit_dim, 3), tensors, strict=True):
            check(found, x, unit_dim=unit_dim, interval=INTERVAL)
        assert teams == [3]

    def test_small_work_is_not_shared_out(self, teams):
        summaries([normal(2 * cpu.PARALLEL_FROM - 1)], None, 4)
        assert teams == []
        summaries([normal(2 * cpu.PARALLEL_FROM)], None, 4)
        assert teams == [2]

    def test_only_what_is_wanted_counts(self, teams):
        waiting = SummaryQueue()
        tickets = [waiting.add(normal(10_000, seed=k)) for k in range(50)]
        with threads(4):
            table, _ = waiting.take(tickets[:2])
        assert (len(table), teams) == (2, [])

    @given(
        st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=3), min_size=1, max_size=6),
        st.integers(1, 6),
        st.integers(1, 40),
        st.sampled_from(DTYPES),
        st.data(),
    )
    def test_any_cuts(self, shapes, n, longest, dtype, data):
        """With so few elements for each thread, and at a time, that small tensors are cut."""
        tensors = [normal(*shape, seed=k).to(dtype) for k, shape in enumerate(shapes)]
        unit_dim = data.draw(st.sampled_from([None, 0, 1]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu, "PARALLEL_FROM", 1)
            patch.setattr(cpu, "LONGEST", longest)
            found = summaries(tensors, unit_dim, n)
        for summary, x in zip(found, tensors, strict=True):
            check(summary, x, unit_dim=unit_dim, interval=INTERVAL)

    def test_the_pool_that_stands_in_for_openmp(self, monkeypatch, teams):
        monkeypatch.setattr(team, "_parallel", lambda: None)
        x = normal(3_000, 500)
        check(summaries([x], 1, 3)[0], x, unit_dim=1, interval=INTERVAL)
        assert teams == [3]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_updates_are_cut_with_what_they_are_measured_by(self, dtype, teams):
        x = normal(3 * (1 << 20) + 7).to(dtype)
        before, old = Sample(x), x.clone()
        x += normal(len(x), seed=1).to(dtype)
        waiting = SummaryQueue()
        with threads(3):
            table, rows = waiting.take(waiting.differences([(x, before)]))
        wide = torch.promote_types(dtype, torch.float32)
        check(table.summary(rows[0]), (x.to(wide) - old.to(wide))[:: before.stride])
        assert before.stride == 4
        assert teams == [3]

    @pytest.mark.parametrize("unit_dim", [None, 1])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_sums_that_overflow_are_no_reason_to_warn(self, unit_dim, sign, teams):
        x = torch.full((400_000, 1), 1e308, dtype=torch.float64)
        x[200_000:] *= sign
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = summaries([x], unit_dim, 2)[0]
        assert teams == [2]
        assert found.squares == math.inf
        assert not math.isfinite(found.total)
        assert (found.minimum, found.maximum, found.nonfinite) == (sign * 1e308, 1e308, 0)


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def values(request):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(MANY // UNITS, UNITS, dtype=torch.float64, generator=generator) + MEAN).to(request.param)


@pytest.fixture(scope="module")
def true(values):
    """Mean and deviation of all, and of each unit, in two passes over what rounding left."""
    wide = values.double()
    return (
        wide.mean().item(),
        wide.std(correction=0).item(),
        wide.mean(0).numpy(),
        wide.std(0, correction=0).numpy(),
    )


class TestAccuracy:
    """Mean and standard deviation of ten million values, right to a thousandth of the latter."""

    @pytest.mark.parametrize("n", [1, 2, 4])
    @pytest.mark.parametrize("unit_dim", [None, 1, 0])
    def test_when_the_mean_is_a_thousand_times_the_deviation(self, values, true, unit_dim, n):
        mean, deviation, means, deviations = true
        x = values.view(UNITS, -1) if unit_dim == 0 else values
        with threads(n):
            found = cpu.summarise(x, unit_dim=unit_dim)
        assert found.mean == pytest.approx(mean, rel=0, abs=1e-3 * deviation)
        assert found.std == pytest.approx(deviation, rel=1e-3)
        if unit_dim == 1:
            assert np.abs(found.units.total / found.units.count - means).max() < 1e-3 * deviations.min()
            assert found.units.variance**0.5 == pytest.approx(deviations, rel=1e-3)
