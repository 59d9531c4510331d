"""Tables of summaries in a trace: sorted in when they are asked for, replaced, merged, thinned and frozen."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Kind, Location, LossCall, Role, Signal, Site, Trace
from unstuck.trace.trace import KEEP_FROM_START, MAX_SAMPLED_STEPS

SITES = 3
ROLES = [Role.VALUE, Role.GRADIENT]


@pytest.fixture
def trace() -> Trace:
    return new_trace()


def new_trace() -> Trace:
    return Trace([Site(k, Kind.PARAMETER, "parameter", "", Location("/t.py", 1), k) for k in range(SITES)])


def of(*values: float) -> TensorSummary:
    return summarise(torch.tensor(values))


def table(*values: float) -> SummaryTable:
    """One row a value, which is the value's mean."""
    return SummaryTable.of([of(value) for value in values])


def means(trace: Trace, site: int, role: Role) -> dict[int, float]:
    return {step: summary.mean for step, summary in trace.summaries(trace.sites[site], role)}


class TestRows:
    def test_all_of_them_when_none_are_named(self, trace):
        trace.add_table(4, [(0, Role.VALUE), (2, Role.VALUE), (0, Role.UPDATE)], table(1.0, 2.0, 3.0))
        assert means(trace, 0, Role.VALUE) == {4: 1.0}
        assert means(trace, 2, Role.VALUE) == {4: 2.0}
        assert means(trace, 0, Role.UPDATE) == {4: 3.0}
        assert means(trace, 1, Role.VALUE) == {}

    def test_some_in_any_order_and_one_for_two_keys(self, trace):
        keys = [(0, Role.VALUE), (1, Role.VALUE), (2, Role.VALUE)]
        trace.add_table(0, keys, table(1.0, 2.0, 3.0, 4.0), [3, 0, 3])
        assert [means(trace, k, Role.VALUE)[0] for k in range(3)] == [4.0, 1.0, 4.0]

    def test_a_row_that_there_is_not(self, trace):
        keys = [(0, Role.VALUE), (1, Role.VALUE), (2, Role.VALUE)]
        trace.add_table(0, keys, table(1.0, 2.0), [1, -1, 0])
        assert [means(trace, k, Role.VALUE) for k in range(3)] == [{0: 2.0}, {}, {0: 1.0}]
        trace.add_table(0, keys[:1], table(5.0), [-1], replace=True)
        assert means(trace, 0, Role.VALUE) == {0: 2.0}

    def test_no_rows(self, trace):
        trace.add_table(0, [], table())
        trace.add_table(0, [], table(1.0, 2.0), [])
        assert not trace.snapshot()._summaries

    @pytest.mark.parametrize("rows", [None, [0], [0, 1, 0]])
    def test_each_row_needs_a_key(self, trace, rows):
        trace.add_table(0, [(0, Role.VALUE), (1, Role.VALUE)], table(1.0, 2.0, 3.0), rows)
        with pytest.raises(ValueError, match="zip"):
            means(trace, 0, Role.VALUE)

    def test_units_come_along(self, trace):
        x = torch.tensor([[1.0, 9.0], [2.0, -9.0]])
        trace.add_table(
            0, [(0, Role.INPUT)], SummaryTable.of([of(1.0), summarise(x, unit_dim=1, interval=(-3.0, 3.0))]), [1]
        )
        assert trace.dead_units(trace.sites[0]).tolist() == [False, True]


class TestTwoTablesOfAStep:
    key = (0, Role.VALUE)

    def test_they_are_merged(self, trace):
        trace.add_table(0, [self.key], table(1.0))
        trace.add_table(0, [self.key], table(7.0, 3.0), [1])
        found = trace.summary(trace.sites[0], Role.VALUE, 0)
        assert (found.count, found.mean, found.minimum, found.maximum) == (2, 2.0, 1.0, 3.0)
        assert found.histogram.sum() == 2

    def test_a_key_twice_in_one_table_is_merged(self, trace):
        trace.add_table(0, [self.key, (1, Role.VALUE), self.key], table(1.0, 9.0, 3.0))
        assert trace.summary(trace.sites[0], Role.VALUE, 0).total == 4.0

    def test_merging_leaves_the_tables_alone(self, trace):
        first, second = table(1.0, 5.0), table(3.0)
        trace.add_table(0, [self.key], first, [0])
        trace.add_table(0, [self.key], second)
        trace.add_table(0, [(1, Role.VALUE)], first, [0])
        assert means(trace, 0, Role.VALUE) == {0: 2.0}
        assert means(trace, 1, Role.VALUE) == {0: 1.0}
        assert [first.summary(0).count, second.summary(0).count] == [1, 1]

    @pytest.mark.parametrize("asked", [False, True])
    def test_the_second_may_take_the_place_of_the_first(self, trace, asked):
        trace.add_table(0, [self.key, (1, Role.VALUE)], table(1.0, 2.0))
        trace.add_table(1, [self.key], table(4.0))
        if asked:
            assert means(trace, 0, Role.VALUE) == {0: 1.0, 1: 4.0}
        trace.add_table(0, [self.key], table(7.0), replace=True)
        assert means(trace, 0, Role.VALUE) == {0: 7.0, 1: 4.0}
        assert means(trace, 1, Role.VALUE) == {0: 2.0}
        trace.add_table(0, [self.key], table(9.0))
        assert means(trace, 0, Role.VALUE) == {0: 8.0, 1: 4.0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.lists(st.tuples(st.integers(0, SITES - 1), st.sampled_from(ROLES), st.integers(-1, 3)), max_size=5),
            st.booleans(),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_any_tables_asked_for_at_any_time(added):
    """Against a dictionary of lists of values."""
    trace, expected = new_trace(), {}
    for number, (step, entries, replace, asked) in enumerate(added):
        values = [float(10 * number + row) for row in range(4)]
        keys = [(site, role) for site, role, _ in entries]
        trace.add_table(step, keys, table(*values), [row for _, _, row in entries], replace=replace)
        for site, role, row in entries:
            if row >= 0:
                own = expected.setdefault((site, role), {})
                own[step] = [values[row]] if replace else [*own.get(step, []), values[row]]
        if asked:
            means(trace, 0, Role.VALUE)
    for site in range(SITES):
        for role in ROLES:
            own = expected.get((site, role), {})
            found = trace.summaries(trace.sites[site], role)
            assert [step for step, _ in found] == sorted(own)
            for step, summary in found:
                assert (summary.count, summary.total) == (len(own[step]), sum(own[step]))


class TestThinning:
    def test_tables_of_forgotten_steps_that_were_never_asked_for_go_too(self, trace):
        for step in range(MAX_SAMPLED_STEPS + 1):
            trace.add_step(step)
            trace.add_table(step, [(0, Role.VALUE), (1, Role.GRADIENT)], table(step + 1, -step - 1))
        kept = [*trace.steps[:-1], MAX_SAMPLED_STEPS]
        assert len(kept) < MAX_SAMPLED_STEPS * 0.6
        assert kept[:KEEP_FROM_START] == list(range(KEEP_FROM_START))
        assert means(trace, 0, Role.VALUE) == {step: step + 1 for step in kept}
        assert means(trace, 1, Role.GRADIENT) == {step: -step - 1 for step in kept}
        assert sorted(trace._bytes) == kept
        assert trace.nbytes == len(kept) * trace._bytes[0]

    def test_bytes_are_those_of_the_tables(self, trace):
        assert trace.nbytes == 0
        trace.add_table(0, [(0, Role.VALUE)], table(1.0))
        one = trace.nbytes
        assert one > table(1.0).nbytes
        trace.add_table(5, [(0, Role.VALUE)], table(1.0))
        assert trace.nbytes == 2 * one
        means(trace, 0, Role.VALUE)
        assert trace.nbytes == 2 * one


class TestSnapshot:
    @pytest.mark.parametrize("asked", [False, True])
    def test_later_tables_are_not_in_it_and_do_not_change_it(self, trace, asked):
        trace.add_step(0)
        trace.add_table(0, [(0, Role.VALUE), (1, Role.VALUE)], table(1.0, 2.0))
        frozen = trace.snapshot()
        if asked:
            assert means(frozen, 0, Role.VALUE) == {0: 1.0}
        trace.add_table(0, [(0, Role.VALUE)], table(7.0))
        trace.add_table(0, [(1, Role.VALUE)], table(7.0), replace=True)
        trace.add_table(1, [(2, Role.VALUE)], table(7.0))
        assert means(trace, 0, Role.VALUE) == {0: 4.0}
        assert [means(frozen, k, Role.VALUE) for k in range(SITES)] == [{0: 1.0}, {0: 2.0}, {}]
        assert frozen.nbytes < trace.nbytes

    def test_what_is_added_to_it_stays_its_own(self, trace):
        trace.add_table(0, [(0, Role.VALUE)], table(1.0))
        frozen = trace.snapshot()
        frozen.add_table(0, [(0, Role.VALUE)], table(3.0), replace=True)
        frozen.add_table(1, [(0, Role.VALUE)], table(4.0))
        assert means(frozen, 0, Role.VALUE) == {0: 3.0, 1: 4.0}
        assert means(trace, 0, Role.VALUE) == {0: 1.0}

    def test_thinning_the_trace_leaves_it_whole(self, trace):
        for step in range(MAX_SAMPLED_STEPS):
            trace.add_step(step)
            trace.add_table(step, [(0, Role.VALUE)], table(step))
        frozen = trace.snapshot()
        trace.add_step(MAX_SAMPLED_STEPS)
        assert len(means(trace, 0, Role.VALUE)) < MAX_SAMPLED_STEPS
        assert len(means(frozen, 0, Role.VALUE)) == len(frozen.steps) == MAX_SAMPLED_STEPS


class TestUntil:
    def test_later_steps_are_gone_and_earlier_ones_stay(self, trace):
        for step in (0, 3, 7):
            trace.add_step(step)
            trace.objective[step] = float(step)
            trace.add_table(step, [(0, Role.VALUE)], table(1.0 + step))
            trace.add_scalar(step, 0, "units", step)
        trace.facts.backward_calls = 8
        early = trace.until(3)
        assert (early.steps, early.objective) == ([0, 3], {0: 0.0, 3: 3.0})
        assert means(early, 0, Role.VALUE) == {0: 1.0, 3: 4.0}
        assert early.scalars(trace.sites[0], "units") == [(0, 0), (3, 3)]
        assert early.facts.backward_calls == 4
        assert (trace.steps, means(trace, 0, Role.VALUE)) == ([0, 3, 7], {0: 1.0, 3: 4.0, 7: 8.0})


class TestSince:
    @pytest.fixture
    def trained(self, trace) -> Trace:
        """Steps 0, 3 and 7 sampled, with one of everything."""
        for step in (0, 3, 7):
            trace.add_step(step)
            trace.objective[step] = float(step)
            trace.loss_calls.append(LossCall(step, 0, 1.0, None))
            trace.add_table(step, [(0, Role.VALUE)], table(1.0 + step))
            trace.add_scalar(step, 0, "units", step)
            trace.add_vector(step, 0, "counts", [step])
        return trace

    def test_earlier_steps_are_gone_and_later_ones_stay(self, trained):
        late = trained.between(3)
        assert (late.steps, late.objective) == ([3, 7], {3: 3.0, 7: 7.0})
        assert [call.step for call in late.loss_calls] == [3, 7]
        assert means(late, 0, Role.VALUE) == {3: 4.0, 7: 8.0}
        assert late.scalars(trained.sites[0], "units") == [(3, 3), (7, 7)]
        assert [step for step, _ in late.vectors(trained.sites[0], "counts")] == [3, 7]

    def test_the_start_is_not_known(self, trained):
        late = trained.between(1)
        assert late.loss_at_start() == []
        assert late.summary(trained.sites[0], Role.VALUE) is None
        assert not late.has(Signal.START)

    def test_the_trace_itself_keeps_all(self, trained):
        trained.between(7).sites[0].path = "other"
        assert trained.steps == [0, 3, 7]
        assert means(trained, 0, Role.VALUE) == {0: 1.0, 3: 4.0, 7: 8.0}
        assert trained.sites[0].path != "other"

    def test_facts_of_the_run_and_sites_stay(self, trained):
        trained.facts.weights_loaded, trained.facts.backward_calls = True, 8
        late = trained.between(7)
        assert (late.facts.weights_loaded, late.facts.backward_calls, len(late.sites)) == (True, 8, len(trained.sites))

    def test_from_the_first_step_it_is_the_same_and_beyond_the_last_nothing_is_left(self, trained):
        assert means(trained.between(0), 0, Role.VALUE) == means(trained, 0, Role.VALUE)
        none = trained.between(8)
        assert (none.steps, none.objective, means(none, 0, Role.VALUE), none.nbytes) == ([], {}, {}, 0)

    def test_it_takes_the_memory_of_what_it_keeps(self, trained):
        assert 3 * trained.between(7).nbytes == trained.nbytes == 3 * trained.until(0).nbytes
