import numpy as np
import torch

from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Kind, LossCall, Role, Site, Trace
from unstuck.trace.journal import Journal
from unstuck.trace.renewal import renew_calls, renew_losses, renew_rows, rows_of


def summary(value):
    return summarise(torch.full((2,), float(value)))


def made(steps=(0, 1)):
    trace = Trace(sites=[Site(n, Kind.WEIGHT_LAYER, "linear", f"fc{n}", None, n) for n in range(2)])
    trace.journal = Journal()
    for step in steps:
        trace.add_step(step)
        for site in range(2):
            trace.add(step, site, Role.INPUT, summary(10 * site + step))
            trace.add(step, site, Role.OUTPUT, summary(100))
    return trace


def means(trace, step):
    return [trace.summary(site, Role.INPUT, step).mean for site in trace.sites]


class TestRows:
    def test_none(self):
        keys, table = rows_of(Trace(), 0)
        assert (keys, len(table)) == ([], 0)

    def test_all_of_a_step(self):
        trace = made()
        keys, table = rows_of(trace, 1)
        assert {key: table.summary(row).mean for row, key in enumerate(keys)} == {
            (0, Role.INPUT): 1.0,
            (1, Role.INPUT): 11.0,
            (0, Role.OUTPUT): 100.0,
            (1, Role.OUTPUT): 100.0,
        }

    def test_without_those_that_are_known(self):
        keys, _ = rows_of(made(), 1, {(0, Role.INPUT), (0, Role.OUTPUT)})
        assert set(keys) == {(1, Role.INPUT), (1, Role.OUTPUT)}

    def test_a_site_that_was_passed_twice_is_one_row(self):
        trace = made()
        trace.add(1, 0, Role.INPUT, summary(3))
        keys, table = rows_of(trace, 1)
        assert table.summary(keys.index((0, Role.INPUT))).count == 4


class TestRenewRows:
    def test_others_stay(self):
        trace = made()
        renew_rows(trace, 1, [(1, Role.INPUT)], SummaryTable.of([summary(7)]))
        assert means(trace, 1) == [1.0, 7.0]
        assert means(trace, 0) == [0.0, 10.0]

    def test_a_journal_has_each_number_once(self):
        trace = made()
        keys, table = rows_of(trace, 1)
        renew_rows(trace, 1, keys, table)
        entries = [e for e in trace.journal.tables if e[0] == 1]
        assert sum(row >= 0 for e in entries for row in e[3]) == len(keys)
        again = Trace(sites=trace.sites)
        for entry in trace.journal.tables:
            again.add_table(*entry[:4], replace=entry[4])
        assert means(again, 1) == means(trace, 1)

    def test_memory_is_counted_about_as_before(self):
        trace = made()
        before = trace.nbytes
        for _ in range(3):
            renew_rows(trace, 1, *rows_of(trace, 1))
        assert trace.nbytes < 3 * before


class TestLosses:
    def test_no_steps_between_that_were_forgotten(self):
        trace = Trace(objective={0: 1.0, 2: 2.0}, journal=Journal())
        renew_losses(trace, {1: 5.0, 2: 6.0, 9: 7.0})
        assert trace.objective == {0: 1.0, 2: 6.0, 9: 7.0}
        assert trace.journal.losses_from == 2
        renew_losses(trace, {0: 3.0})
        renew_losses(trace, {2: 6.0})
        assert trace.journal.losses_from == 0

    def test_calls(self):
        trace = Trace(loss_calls=[LossCall(step, 0, float(step), None) for step in (0, 1, 1, 2)])
        renew_calls(trace, 1, [LossCall(1, 0, 9.0, 1.0)])
        assert [(call.step, call.value) for call in trace.loss_calls] == [(0, 0.0), (1, 9.0), (2, 2.0)]


def test_an_empty_summary_is_a_row_like_any_other():
    trace = made()
    renew_rows(trace, 1, [(0, Role.INPUT)], SummaryTable.of([TensorSummary.empty()]))
    assert trace.summary(trace.sites[0], Role.INPUT, 1).count == 0
    assert np.isnan(trace.summary(trace.sites[0], Role.INPUT, 1).mean)
