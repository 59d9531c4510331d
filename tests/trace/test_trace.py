"""The questions that rules ask of a trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unstuck.stats.reference import summarise
from unstuck.stats.summary import TensorSummary
from unstuck.stats.table import SummaryTable
from unstuck.trace import Edge, Kind, Location, LossCall, Role, Signal, Site, Trace
from unstuck.trace.trace import KEEP_FROM_START, MAX_SAMPLED_STEPS

INTERVAL = (-2.0, 2.0)


def of(*values: float) -> TensorSummary:
    return summarise(torch.tensor(values), interval=INTERVAL)


def units(*rows: list[float]) -> TensorSummary:
    return summarise(torch.tensor(rows), unit_dim=1, interval=INTERVAL)


def add(trace: Trace, kind: Kind, op: str = "", *, order: int | None = None, **fields) -> Site:
    index = len(trace.sites)
    site = Site(index, kind, op, "", Location("/t.py", index + 1), index if order is None else order, **fields)
    trace.sites.append(site)
    return site


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.fixture
def site(trace: Trace) -> Site:
    return add(trace, Kind.ACTIVATION, "tanh", interval=INTERVAL)


class TestFilling:
    def test_a_step_counts_once_and_never_runs_backwards(self, trace):
        for step in (0, 0, 2, 1, 2, 5):
            trace.add_step(step)
        assert trace.steps == [0, 2, 5]

    def test_a_second_summary_of_a_step_is_merged(self, trace, site):
        trace.add(0, site.index, Role.INPUT, of(1.0, 5.0))
        trace.add(0, site.index, Role.INPUT, of(3.0))
        found = trace.summary(site, Role.INPUT, 0)
        assert (found.count, found.mean, found.outside) == (3, 3.0, 2)

    def test_a_replaced_summary_is_not_merged(self, trace, site):
        trace.add(0, site.index, Role.GRADIENT, of(1.0, 5.0))
        trace.add_table(0, [(site.index, Role.GRADIENT)], SummaryTable.of([of(2.0)]), replace=True)
        assert trace.summary(site, Role.GRADIENT, 0).count == 1

    def test_the_last_scalar_of_a_step_stands(self, trace, site):
        trace.add_scalar(0, site.index, "classes", 10)
        trace.add_scalar(0, site.index, "classes", 27)
        assert trace.scalar(site, "classes") == 27


class TestSites:
    def test_of_kind_in_the_order_of_execution(self, trace):
        late = add(trace, Kind.NORM, order=9)
        early = add(trace, Kind.ACTIVATION, order=1)
        add(trace, Kind.LOSS, order=0)
        assert trace.of_kind(Kind.NORM, Kind.ACTIVATION) == [early, late]
        assert trace.of_kind(Kind.EMBEDDING) == []

    def test_parameters_weight_first(self, trace):
        bias, weight = (add(trace, Kind.PARAMETER, slot=slot) for slot in ("bias", "weight"))
        layer = add(trace, Kind.WEIGHT_LAYER, parameters=(weight.index, bias.index))
        assert trace.parameters_of(layer) == [weight, bias]
        assert trace.parameters_of(bias) == []

    def test_what_feeds_what(self, trace):
        a, b, c, lone = (add(trace, Kind.WEIGHT_LAYER, order=order) for order in (3, 2, 1, 0))
        trace.edges |= {Edge(a.index, b.index), Edge(a.index, c.index), Edge(c.index, b.index, direct=False)}
        assert trace.consumers(a) == [c, b]
        assert trace.consumers(c) == []
        assert trace.consumers(c, direct=False) == [b]
        assert trace.producers(b) == [a]
        assert trace.producers(b, direct=False) == [c, a]
        assert trace.consumers(lone, direct=False) == trace.producers(lone, direct=False) == []

    def test_an_edge_of_both_sorts_counts_once(self, trace):
        a, b = (add(trace, Kind.WEIGHT_LAYER) for _ in range(2))
        trace.edges |= {Edge(a.index, b.index), Edge(a.index, b.index, direct=False)}
        assert trace.consumers(a, direct=False) == [b]
        assert trace.producers(b, direct=False) == [a]


class TestNumbers:
    def test_what_was_never_recorded(self, trace, site):
        assert trace.summary(site, Role.INPUT) is None
        assert trace.summary(site, Role.INPUT, 7) is None
        assert trace.summaries(site, Role.INPUT) == []
        assert trace.merged(site, Role.INPUT).count == 0
        assert trace.scalar(site, "units") is None
        assert trace.scalars(site, "units") == []
        assert trace.dead_units(site) is None
        assert trace.loss_at_start() == []
        for steps, values in (trace.series(site, Role.INPUT, "std"), trace.update_to_data(site)):
            assert steps.tolist() == values.tolist() == []

    def test_asking_leaves_no_trace(self, trace, site):
        trace.summary(site, Role.UPDATE)
        trace.series(site, Role.UPDATE, "std")
        trace.merged(site, Role.UPDATE)
        trace.scalars(site, "units")
        assert not trace.has(Signal.UPDATES)
        assert not trace._summaries
        assert not trace._scalars

    def test_summary_at_the_start_or_at_a_step(self, trace, site):
        for step in (3, 0):
            trace.add(step, site.index, Role.INPUT, of(float(step)))
        assert trace.summary(site, Role.INPUT).mean == 0
        assert trace.summary(site, Role.INPUT, 3).mean == 3
        assert trace.summary(site, Role.OUTPUT, 3) is None
        assert [step for step, _ in trace.summaries(site, Role.INPUT)] == [0, 3]

    def test_merged_over_all_or_some_steps(self, trace, site):
        for step in range(4):
            trace.add(step, site.index, Role.INPUT, of(float(step)))
        assert trace.merged(site, Role.INPUT).total == 6
        assert trace.merged(site, Role.INPUT, [1, 3, 99]).total == 4
        assert trace.merged(site, Role.INPUT, []).count == 0

    def test_series_of_a_statistic(self, trace, site):
        trace.add(5, site.index, Role.INPUT, of(1.0, 3.0))
        trace.add(0, site.index, Role.INPUT, of(0.0, 9.0))
        steps, values = trace.series(site, Role.INPUT, "outside_fraction")
        assert (steps.tolist(), values.tolist()) == ([0, 5], [0.5, 0.5])
        assert (steps.dtype, values.dtype) == (np.int64, np.float64)
        assert trace.series(site, Role.INPUT, "std")[1].tolist() == [4.5, 1.0]

    def test_scalars_in_order(self, trace, site):
        for step in (4, 0):
            trace.add_scalar(step, site.index, "units", step + 1.0)
        assert trace.scalars(site, "units") == [(0, 1.0), (4, 5.0)]
        assert trace.scalar(site, "units", 4) == 5.0

    def test_loss_at_start(self, trace):
        calls = [LossCall(0, 1, 3.3, 3.2), LossCall(0, 2, 1.0, None), LossCall(1, 1, 3.0, 3.2)]
        trace.loss_calls = list(calls)
        assert trace.loss_at_start() == calls[:2]


class TestUpdateToData:
    @staticmethod
    def weight(trace: Trace, fan_in: int | None = None, slot: str = "weight") -> Site:
        owner = add(trace, Kind.WEIGHT_LAYER, fan_in=fan_in)
        return add(trace, Kind.PARAMETER, owner=owner.index, slot=slot)

    @staticmethod
    def record(trace: Trace, site: Site, value: list[float], update: list[float], step: int = 0) -> None:
        trace.add(step, site.index, Role.VALUE, of(*value))
        trace.add(step, site.index, Role.UPDATE, of(*update))

    def ratios(self, trace: Trace, site: Site) -> list[float]:
        return trace.update_to_data(site)[1].tolist()

    def test_rms_of_update_over_rms_of_value(self, trace):
        w = self.weight(trace)
        self.record(trace, w, [3.0, -3.0], [0.03, 0.03], step=2)
        steps, values = trace.update_to_data(w)
        assert steps.tolist() == [2]
        assert values == pytest.approx([0.01])

    def test_a_small_weight_is_measured_by_the_scale_of_its_fan_in(self, trace):
        w = self.weight(trace, fan_in=100)  # a third of 1/√100
        for step, value in enumerate((0.0, 0.01, 0.033)):
            self.record(trace, w, [value, value], [0.001, 0.001], step)
        assert self.ratios(trace, w) == pytest.approx([0.03] * 3)

    def test_a_large_weight_is_measured_by_itself(self, trace):
        w = self.weight(trace, fan_in=100)
        self.record(trace, w, [0.034, -0.034], [0.001, 0.001])
        assert self.ratios(trace, w) == pytest.approx([1 / 34])

    @pytest.mark.parametrize("slot", ["bias", ""])
    def test_only_weights_have_that_floor(self, trace, slot):
        b = self.weight(trace, fan_in=100, slot=slot)
        self.record(trace, b, [0.001], [0.001])
        assert self.ratios(trace, b) == pytest.approx([1.0])

    def test_steps_without_scale_value_or_finite_update_are_left_out(self, trace):
        b = self.weight(trace, slot="bias")
        self.record(trace, b, [0.0], [1.0], step=0)
        self.record(trace, b, [1.0], [math.nan], step=1)
        trace.add(2, b.index, Role.UPDATE, of(1.0))
        self.record(trace, b, [2.0], [1.0], step=3)
        steps, values = trace.update_to_data(b)
        assert (steps.tolist(), values.tolist()) == ([3], [0.5])

    def test_a_parameter_that_no_call_used(self, trace):
        p = add(trace, Kind.PARAMETER, slot="weight")
        self.record(trace, p, [2.0], [1.0])
        assert self.ratios(trace, p) == [0.5]


class TestDeadUnits:
    def test_a_unit_must_be_outside_in_every_element_of_every_step(self, trace, site):
        trace.add(0, site.index, Role.INPUT, units([9.0, 9.0, 0.0], [-9.0, 9.0, 0.0]))
        trace.add(1, site.index, Role.INPUT, units([9.0, 0.0, 9.0]))
        assert trace.dead_units(site).tolist() == [True, False, False]
        assert trace.dead_units(site, [0]).tolist() == [True, True, False]
        assert trace.dead_units(site, [1]).tolist() == [True, False, True]

    def test_unknown_when_the_number_of_units_changed(self, trace, site):
        trace.add(0, site.index, Role.INPUT, units([9.0, 9.0]))
        trace.add(1, site.index, Role.INPUT, units([9.0]))
        assert trace.dead_units(site) is None
        assert trace.dead_units(site, [0]).tolist() == [True, True]

    def test_unknown_without_units(self, trace, site):
        trace.add(0, site.index, Role.INPUT, of(9.0))
        assert trace.dead_units(site) is None


class TestThinning:
    @staticmethod
    def long(trace: Trace, site: Site, steps: int) -> None:
        for step in range(steps):
            trace.add_step(step)
            trace.add(step, site.index, Role.INPUT, of(float(step)))
            trace.add_scalar(step, site.index, "units", step)
            trace.loss_calls.append(LossCall(step, site.index, 1.0, None))

    def test_nothing_is_forgotten_up_to_the_limit(self, trace, site):
        self.long(trace, site, MAX_SAMPLED_STEPS)
        assert trace.steps == list(range(MAX_SAMPLED_STEPS))

    def test_a_long_run_stays_bounded_and_keeps_its_start_and_end(self, trace, site):
        total = 4 * MAX_SAMPLED_STEPS
        longest = 0
        for step in range(total):
            trace.add_step(step)
            longest = max(longest, len(trace.steps))
        assert longest == MAX_SAMPLED_STEPS
        assert trace.steps[:KEEP_FROM_START] == list(range(11))
        assert trace.steps[-1] == total - 1
        assert trace.steps == sorted(set(trace.steps))
        assert len(trace.steps) > MAX_SAMPLED_STEPS / 3

    def test_of_the_losses_the_first_and_the_latest_stay(self, trace, monkeypatch):
        monkeypatch.setattr("unstuck.trace.trace.MAX_LOSSES", 4_000)
        for step in range(20_000):
            trace.objective[step] = float(step)
            if step % 100 == 0:
                trace.add_step(step)
        assert 2_000 < len(trace.objective) < 4_200
        kept = list(trace.objective)
        assert kept == sorted(kept)
        assert kept[:1_000] == list(range(1_000))
        assert kept[-1_000:] == list(range(19_000, 20_000))
        assert all(value == step for step, value in trace.objective.items())

    def test_memory_stays_bounded_too(self, trace, site, monkeypatch):
        monkeypatch.setattr("unstuck.trace.trace.MAX_BYTES", 20_000)
        for step in range(300):
            trace.add_step(step)
            trace.add(step, site.index, Role.INPUT, of(float(step)))
            trace.add(step, site.index, Role.INPUT, of(2.0))
        assert 5_000 < trace.nbytes < 25_000
        assert len(trace.summaries(site, Role.INPUT)) == len(trace.steps)
        assert trace.steps[:KEEP_FROM_START] == list(range(11))
        assert trace.steps[-1] == 299

    def test_numbers_of_forgotten_steps_go_and_the_others_stay(self, trace, site):
        self.long(trace, site, MAX_SAMPLED_STEPS + 1)
        kept = trace.steps
        assert len(kept) < MAX_SAMPLED_STEPS
        expected = [*kept[:-1], MAX_SAMPLED_STEPS]
        assert [step for step, _ in trace.summaries(site, Role.INPUT)] == expected
        assert [step for step, _ in trace.scalars(site, "units")] == expected
        assert [call.step for call in trace.loss_calls] == expected
        assert all(summary.mean == step for step, summary in trace.summaries(site, Role.INPUT))


class TestHas:
    def test_an_empty_trace_has_nothing(self, trace):
        assert [signal for signal in Signal if trace.has(signal)] == []

    def test_sites_without_numbers_are_no_signal(self, trace):
        for kind in (Kind.ACTIVATION, Kind.PARAMETER, Kind.LOSS):
            add(trace, kind)
        trace.loss_calls.append(LossCall(0, 2, 1.0, None))
        assert [signal for signal in Signal if trace.has(signal)] == []

    @pytest.mark.parametrize(
        ("kind", "role", "signal"),
        [
            (Kind.ACTIVATION, Role.INPUT, Signal.ACTIVATIONS),
            (Kind.PARAMETER, Role.GRADIENT, Signal.PARAMETER_GRADIENTS),
            (Kind.PARAMETER, Role.UPDATE, Signal.UPDATES),
            (Kind.EMBEDDING, Role.OUTPUT_GRADIENT, Signal.OUTPUT_GRADIENTS),
            (Kind.ACTIVATION, Role.OUTPUT, None),
        ],
    )
    def test_a_summary(self, trace, kind, role, signal):
        trace.add(4, add(trace, kind).index, role, of(1.0))
        assert [s for s in Signal if trace.has(s)] == ([signal] if signal else [])

    @pytest.mark.parametrize(("kind", "signal"), [(Kind.WEIGHT_LAYER, Signal.WEIGHT_LAYERS), (Kind.NORM, Signal.NORMS)])
    def test_a_site(self, trace, kind, signal):
        add(trace, kind)
        assert [s for s in Signal if trace.has(s)] == [signal]

    def test_steps_start_and_losses(self, trace):
        trace.facts.backward_calls = 1
        assert trace.has(Signal.STEPS)
        trace.add_step(1)
        assert not trace.has(Signal.START)
        trace.objective[1] = 2.0
        assert trace.has(Signal.LOSS_VALUES)
        trace.loss_calls.append(LossCall(1, 0, 2.0, 1.0))
        assert trace.has(Signal.LOSS_CALL)

    def test_the_first_step(self, trace):
        trace.add_step(0)
        assert trace.has(Signal.START)


class TestSnapshot:
    def test_it_equals_the_trace_and_does_not_follow_it(self, trace, site):
        trace.add_step(0)
        trace.objective[0] = 1.0
        trace.add(0, site.index, Role.INPUT, of(1.0))
        trace.add_scalar(0, site.index, "units", 3)
        trace.loss_calls.append(LossCall(0, 0, 1.0, None))
        trace.edges.add(Edge(0, 0))
        frozen = trace.snapshot()
        assert frozen.sites == trace.sites

        trace.add_step(1)
        trace.objective[1] = 2.0
        trace.add(0, site.index, Role.INPUT, of(5.0))
        trace.add(1, site.index, Role.INPUT, of(5.0))
        trace.add_scalar(0, site.index, "units", 4)
        trace.loss_calls.clear()
        trace.edges.clear()
        trace.facts.backward_calls = 9
        add(trace, Kind.LOSS)

        assert (frozen.steps, frozen.objective, len(frozen.sites)) == ([0], {0: 1.0}, 1)
        assert [(step, s.mean) for step, s in frozen.summaries(site, Role.INPUT)] == [(0, 1.0)]
        assert frozen.scalar(site, "units") == 3
        assert (len(frozen.loss_calls), len(frozen.edges), frozen.facts.backward_calls) == (1, 1, 0)

    def test_the_trace_does_not_follow_it(self, trace, site):
        frozen = trace.snapshot()
        frozen.add_step(0)
        frozen.add(0, site.index, Role.INPUT, of(1.0))
        frozen.facts.weights_loaded = True
        assert trace.steps == []
        assert trace.summary(site, Role.INPUT) is None
        assert not trace.facts.weights_loaded
