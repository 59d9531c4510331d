"""The numbers of the charts equal those of the trace."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.helpers import TraceBuilder, normal
from unstuck.report import chartdata as data
from unstuck.trace import Kind, Location, Role

from .drawn import UNITS, silent, trace


class TestNothingToShow:
    @pytest.mark.parametrize("rows", [data.loss, data.saturation, data.updates, data.depth, data.batch_norms])
    def test_a_run_without_numbers_has_no_rows(self, rows):
        assert rows(silent()) == []

    def test_units_that_were_not_told_apart_have_no_map(self):
        made = TraceBuilder(range(2))
        site = made.site(Kind.ACTIVATION, "tanh", interval=(-2.0, 2.0))
        made.trace.add_step(0)
        assert data.unit_map(made.trace, site, "tanh") is None


class TestNames:
    def test_places_with_one_label_are_told_apart_by_line_then_by_number(self):
        made = TraceBuilder()
        for _ in range(2):
            made.activation("tanh")
        third = made.activation("tanh")
        third.location = made.trace.sites[0].location
        assert list(data.names(made.trace).values()) == [
            "tanh · train.py:1 [0]",
            "tanh · train.py:2",
            "tanh · train.py:1 [2]",
        ]

    def test_long_ones_keep_both_ends_on_one_line(self):
        short = data.shorten("a" * 50 + "\n" + "b" * 50)
        assert len(short) == data.MAX_NAME
        assert short.startswith("aaa")
        assert short.endswith("bbb")
        assert data.shorten("as\n it  is") == "as it is"

    def test_evaluation_is_said(self):
        made = TraceBuilder()
        made.site(Kind.EVALUATION, "batch_norm", "bn")
        assert list(data.names(made.trace).values()) == ["bn (batch_norm) in evaluation"]


class TestShownSteps:
    def test_few_are_all_shown(self):
        assert data.shown_steps([0, 3, 9], 3) == [0, 3, 9]

    def test_of_many_the_first_ten_and_the_last_are(self):
        shown = data.shown_steps(list(range(0, 2_000, 2)), 40)
        assert len(shown) == 40
        assert shown[:10] == list(range(0, 20, 2))
        assert shown[-1] == 1_998
        assert shown == sorted(set(shown))


class TestLoss:
    def test_one_row_a_step_while_there_are_few(self):
        made = trace()
        assert [(row["step"], row["loss"]) for row in data.loss(made)] == sorted(made.objective.items())

    def test_of_many_the_first_ten_stand_alone_and_the_last_rows_are_means_with_their_extremes(self):
        made = silent()
        made.objective.update({step: float(step) for step in range(30_000)})
        rows = data.loss(made)
        assert [row["loss"] for row in rows[:10]] == [float(step) for step in range(10)]
        begin = float(rows[-2]["step"])
        assert rows[-2] == {"step": begin, "infinite": 0, "loss": begin + 53.5, "low": begin, "high": begin + 107}

    @given(st.integers(0, 3_000_000))
    def test_rows_are_few_and_hold_each_step_once_in_parts_that_grow(self, count):
        parts = data._parts(count)
        assert len(parts) <= data.MAX_POINTS
        assert [begin for begin, _ in parts] == [0, *(end for _, end in parts)][: len(parts)]
        sizes = [end - begin for begin, end in parts]
        assert sum(sizes) == count
        assert sizes[:-1] == sorted(sizes[:-1])
        assert sizes[: data.FIRST] == [1] * min(data.FIRST, count)

    def test_what_is_not_finite_is_counted(self):
        made = silent()
        made.objective.update({0: 1.0, 1: math.nan, 2: math.inf})
        assert [row["infinite"] for row in data.loss(made)] == [0, 1, 1]
        assert ["loss" in row for row in data.loss(made)] == [True, False, False]


class TestHistograms:
    def histogram(self, values: np.ndarray, op: str = "tanh") -> data.Histogram:
        made = TraceBuilder(range(2))
        site = made.activation(op, pre=values)
        return data.activation_histogram(made.trace, site, "name")

    def test_shares_are_those_of_the_values(self):
        values = normal(3.0, 4_000, 5)
        made = self.histogram(values)
        counted = np.histogram(values, made.edges)[0] / values.size
        assert made.shares.shape == (2, data.BINS)
        assert made.shares[0] == pytest.approx(counted, abs=0.01)  # octave bins are spread evenly over their width
        assert made.shares[0].sum() == pytest.approx(1 - 2 * data.TAIL, abs=0.01)
        assert made.notes[0] == f"{(np.abs(values) > 2.0845).mean():.1%} saturated"

    def test_of_a_rectifier_they_are_switched_off(self):
        values = normal(1.0, 400, 5)
        assert self.histogram(values, "relu").notes[0] == f"{(values <= 0).mean():.1%} switched off"

    @pytest.mark.parametrize("outermost", [9.0, -9.0, 2.0**30])
    def test_many_equal_values_at_an_end_are_within(self, outermost):
        values = normal(1.0, 400, 5)
        values[:, 0] = outermost
        assert self.histogram(values).shares[0].sum() >= 1 - 2 * data.TAIL

    def test_zeros_fall_into_the_bin_about_zero(self):
        made = self.histogram(np.append(np.zeros(50), [-4.0, 4.0] * 25).reshape(20, 5))
        middle = data.BINS // 2
        assert made.edges[middle] < 0 < made.edges[middle + 1]
        assert made.shares[0][middle] == pytest.approx(0.5)

    def test_the_interval_is_in_sight_unless_the_values_are_far_smaller(self):
        assert self.histogram(normal(1.0, 100, 5)).edges[-1] >= 2.0845
        assert self.histogram(normal(1e-4, 100, 5)).edges[-1] < 1e-3

    @pytest.mark.parametrize("value", [0.0, 7.0, -1e-30, 1e30])
    def test_one_value_alone_has_a_width(self, value):
        made = self.histogram(np.full((10, 5), value))
        assert (np.diff(made.edges) > 0).all()
        assert np.isfinite(made.shares).all()

    def test_values_that_are_not_finite_are_said(self):
        values = normal(1.0, 20, 5)
        values[0, 0] = np.nan
        assert self.histogram(values).notes[0].endswith(", 1 NaN or infinite")
        assert self.histogram(np.full((4, 5), np.inf)).notes[0] == ", 20 NaN or infinite"

    def test_gradients_have_a_bin_an_octave(self):
        made = trace()
        site = data.gradient_sites(made)[0]
        found = data.gradient_histogram(made, site, "weight")
        assert np.diff(found.edges) == pytest.approx(math.log10(2))
        assert found.shares[0].sum() == pytest.approx(1.0)
        values = np.log10(np.abs(normal(1e-3, UNITS, UNITS)))
        assert found.shares[0] == pytest.approx(np.histogram(values, found.edges)[0] / values.size)
        assert found.notes[0] == "rms 0.001"

    def test_a_gradient_of_zeros_alone_says_so(self):
        made = TraceBuilder(range(1))
        weight = made.parameter("w", None, "weight", np.ones((2, 2)))
        made.record(weight, Role.GRADIENT, np.zeros((2, 2)))
        found = data.gradient_histogram(made.trace, weight, "w")
        assert found.notes == ("rms 0, exactly 0: 100.0%",)
        assert found.shares.sum() == 0


class TestMaps:
    def test_saturation_is_the_share_outside(self):
        made = trace()
        rows = data.saturation(made)
        site = data.activations(made)[0]
        assert len(rows) == 3 * 10
        assert rows[0]["switch"] is False
        assert rows[0]["share"] == pytest.approx(made.series(site, Role.INPUT, "outside_fraction")[1][0], abs=1e-4)

    def test_a_unit_that_is_always_saturated_is_whole(self):
        made = trace()
        found = data.unit_map(made, data.activations(made)[0], "act")
        assert found is not None
        assert found.shares.shape == (UNITS, 10)
        assert (found.shares[0] == 1.0).all()
        assert (found.shares[1:] < 1.0).all()
        assert (found.dead, found.total) == (1, UNITS)

    def test_of_many_units_every_dead_one_is_shown(self):
        pre = normal(1.0, 50, 200)
        dead = [*range(1, 60, 2), 198]
        pre[:, dead] = 9.0
        made = TraceBuilder(range(2))
        found = data.unit_map(made.trace, made.activation("tanh", pre=pre), "act")
        assert found is not None
        assert len(found.units) == data.MAX_UNITS
        assert list(found.units) == sorted(set(found.units))
        assert [unit for unit, row in zip(found.units, found.shares, strict=True) if (row == 1.0).all()] == dead
        assert {0, 199} <= set(found.units)
        assert found.note == (
            "31 of 200 units saturated at every step shown; 128 units shown, every dead one among them"
        )

    def test_of_a_rectifier_units_are_switched_off(self):
        made = TraceBuilder(range(2))
        found = data.unit_map(made.trace, made.activation("relu", pre=normal(1.0, 50, 3)), "act")
        assert found is not None
        assert found.note == "0 of 3 units switched off at every step shown"

    def test_of_many_units_some_are_shown_and_all_are_counted(self):
        made = TraceBuilder(range(1))
        site = made.activation("tanh", pre=np.full((3, 1_000), 9.0))
        found = data.unit_map(made.trace, site, "act")
        assert found is not None
        assert (len(found.units), found.units[0], found.units[-1]) == (data.MAX_UNITS, 0, 999)
        assert (found.dead, found.total) == (1_000, 1_000)
        assert found.note == "1,000 of 1,000 units saturated at every step shown; 128 units shown"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1e-45, math.inf), True),
        ((1e-45, 6.0), True),
        ((-2.2, math.inf), True),
        ((-math.inf, 2.7), True),
        ((-2.0, 2.0), False),
        ((-math.inf, math.inf), False),
        (None, False),
    ],
)
def test_what_a_rectifier_is(interval, expected):
    site = TraceBuilder().site(Kind.ACTIVATION, "any", interval=interval)
    assert data.is_rectifier(site) == expected
    assert data.outside(site) == ("switched off" if expected else "saturated")


class TestLines:
    def test_updates_are_logarithms(self):
        rows = data.updates(trace())
        assert {row["log10"] for row in rows} == {-3.0}
        assert len(rows) == 3 * 10

    def test_depth_has_both_ways_at_both_ends(self):
        rows = data.depth(trace())
        assert [(r["depth"], r["log10"]) for r in rows if (r["way"], r["when"]) == ("forward", "first")] == [
            (1, 0.0),
            (2, -1.0),
            (3, -2.0),
        ]
        assert [(r["step"], r["log10"]) for r in rows if (r["way"], r["when"]) == ("backward", "last")] == [
            (9, -2.0),
            (9, -3.0),
            (9, -4.0),
        ]

    def test_what_has_no_logarithm_is_there_and_says_why(self):
        made = TraceBuilder(range(2))
        for k, values in enumerate((normal(1.0, 20, 4), np.zeros((20, 4)), np.full((20, 4), np.nan))):
            layer = made.layer(f"fc{k}", weight=normal(1.0, 4, 4), output=values)
            if k:
                made.record(layer, Role.OUTPUT_GRADIENT, normal(1.0, 20, 4))
        rows = [row for row in data.depth(made.trace) if row["when"] == "first"]
        assert [(row["way"], row["depth"], row.get("missing")) for row in rows] == [
            ("forward", 1, None),
            ("forward", 2, "0"),
            ("forward", 3, "not finite"),
            ("backward", 1, "not measured"),
            ("backward", 2, None),
            ("backward", 3, None),
        ]
        assert all((row["log10"] is None) == ("missing" in row) for row in rows)

    def chain(self, forward: float, backward: float | None) -> list[str]:
        """The slopes of five layers (the sixth is the head) whose scale changes so much with each one."""
        made = TraceBuilder(range(1))
        before = ()
        for k in range(6):
            layer = made.layer(f"fc{k}", weight=normal(1.0, 4, 4), output=normal(forward**k, 20, 4), after=before)
            if backward is not None:
                made.record(layer, Role.OUTPUT_GRADIENT, normal(backward**-k, 20, 4))
            before = layer
        return data.depth_slopes(made.trace)

    def test_a_chain_of_four_layers_has_a_slope(self):
        assert data.depth_slopes(trace()) == []
        assert self.chain(0.1, None) == [
            "forward at the start, fc0 (linear) to fc4 (linear): depth slope -1.000 decades a layer over 5 layers"
        ]

    def test_both_ways_have_slopes_seen_the_way_they_go(self):
        assert [text.split(" decades")[0] for text in self.chain(10.0, 0.1)] == [
            "forward at the start, fc0 (linear) to fc4 (linear): depth slope +1.000",
            "backward at the start, fc4 (linear) to fc0 (linear): depth slope -1.000",
        ]

    @pytest.mark.parametrize(
        ("slope", "text"), [(-4e-4, "+0.000"), (4e-4, "+0.000"), (-6e-4, "-0.001"), (0.5, "+0.500")]
    )
    def test_nothing_has_no_minus(self, slope, text):
        assert data.decades(slope) == text

    def test_batch_norm_has_means_and_variances(self):
        rows = data.batch_norms(trace())
        assert {(row["what"], row["value"]) for row in rows} == {("mean", 1.5), ("variance", 1.5)}
        assert len(rows) == 20


def test_a_location_with_a_long_name_stays_short():
    made = TraceBuilder()
    for _ in range(2):
        made.activation("tanh").location = Location("/" + "x" * 10_000, 1)
    assert all(len(name) < 150 for name in data.names(made.trace).values())
