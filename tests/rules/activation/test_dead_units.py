import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.activation.dead_units import (
    ERROR_DEAD,
    MAX_DEAD,
    MIN_DEAD_UNITS,
    WARN_DEAD,
    DeadUnits,
)
from unstuck.rules.units import MIN_ELEMENTS, latest_window

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

BATCH = 100
UNITS = 100


def batch(dead, units=UNITS, size=BATCH, seed=0):
    """Pre-activations of a ReLU: half of them negative, `dead` units always, by 0.6 or more."""
    x = normal(1.0, size, units, seed=seed)
    x[:, :dead] = -np.abs(x[:, :dead]) - 0.6
    return x


def network(dead, steps=range(20), op="relu", **shape):
    """Units that die after the first step."""
    b = TraceBuilder(steps)
    per_step = dead if callable(dead) else lambda step: batch(dead if step else 0, seed=step, **shape)
    site = b.activation(op, after=b.layer("fc1"), pre=per_step)
    b.loss(after=b.layer("fc2", after=site))
    return b, site


class TestSilent:
    def test_half_of_all_elements_are_zero(self):
        check_silent(DeadUnits, network(0)[0].trace)

    def test_units_that_sleep_in_most_batches(self):
        check_silent(DeadUnits, network(lambda step: batch(0 if step % 5 == 4 else 60, seed=step))[0].trace)

    def test_units_that_were_silent_from_the_start(self):
        check_silent(DeadUnits, network(lambda step: batch(80, seed=step))[0].trace)

    def test_units_that_came_back(self):
        check_silent(DeadUnits, network(lambda step: batch(80 if step < 10 else 0, seed=step))[0].trace)

    def test_one_or_two_units_of_a_small_layer(self):
        check_silent(DeadUnits, network(MIN_DEAD_UNITS - 1, units=8)[0].trace)

    def test_an_output_that_feeds_only_the_loss(self):
        b = TraceBuilder(range(20))
        b.loss(after=b.activation("relu", pre=batch(80)))
        check_silent(DeadUnits, b.trace)

    def test_other_number_of_units_in_each_step(self):
        b, _ = network(0)
        b.activation("relu", pre=lambda step: batch(10, units=20 + step))
        check_silent(DeadUnits, b.trace)

    def test_not_finite_is_not_dead(self):
        b, _ = network(lambda step: np.full((BATCH, UNITS), np.nan))
        check_silent(DeadUnits, b.trace)


class TestFires:
    def test_dead_relu_units(self):
        b, site = network(34)
        finding = check_fires(
            DeadUnits,
            b.trace,
            at=site,
            message="34 of the 100 units of relu (34 %) responded to none of the 1,000 elements of steps 10 to 19; "
            "at most 10 % is healthy",
            severity=Severity.WARNING,
        )
        assert (finding.measured, finding.threshold, finding.unit, finding.steps) == (34.0, MAX_DEAD, "%", (10, 19))

    def test_units_that_die_late_in_the_run(self):
        b, site = network(lambda step: batch(0 if step < 200 else 40, seed=step % 100), steps=range(0, 400, 10))
        check_fires(DeadUnits, b.trace, at=site)

    def test_tanh_units_saturated_on_every_element(self):
        b, site = network(
            lambda step: np.where(np.arange(UNITS) < 20 * (step > 0), 5.0, 0.1) * np.ones((BATCH, 1)), op="tanh"
        )
        check_fires(DeadUnits, b.trace, at=site)

    def test_error_when_most_are_dead(self):
        b, site = network(int(ERROR_DEAD))
        check_fires(DeadUnits, b.trace, at=site, severity=Severity.WARNING)
        b, site = network(int(ERROR_DEAD) + 1)
        check_fires(DeadUnits, b.trace, at=site, severity=Severity.ERROR)


def test_for_information_where_few_are_dead():
    b, site = network(int(WARN_DEAD))
    check_fires(DeadUnits, b.trace, at=site, severity=Severity.INFO)
    b, site = network(int(WARN_DEAD) + 1)
    check_fires(DeadUnits, b.trace, at=site, severity=Severity.WARNING)


def test_as_few_units_as_it_takes():  # one fewer: `test_two_units_of_a_small_layer`
    b, site = network(MIN_DEAD_UNITS, units=8)
    check_fires(DeadUnits, b.trace, at=site)


def test_threshold():
    check_silent(DeadUnits, network(int(MAX_DEAD))[0].trace)
    b, site = network(int(MAX_DEAD) + 1)
    check_fires(DeadUnits, b.trace, at=site)


class TestWindow:
    def test_large_batches_still_need_four_steps(self):
        b, site = network(20, steps=range(10), size=5000)
        steps, sampled, units = latest_window(b.trace, site)
        assert (steps, sampled, units.count) == ((6, 9), 4, 20_000)

    def test_small_batches_need_many_steps(self):
        b, site = network(20, steps=range(300), size=4)
        steps, sampled, units = latest_window(b.trace, site)
        assert (steps, sampled, units.count) == ((50, 299), 250, MIN_ELEMENTS)

    @pytest.mark.parametrize(("steps", "size"), [(3, 5000), (9, 100)])
    def test_lacking(self, steps, size):
        b, _ = network(20, steps=range(steps), size=size)
        check_lacks(DeadUnits, b.trace, "4 sampled steps with 1,000 elements of each unit of an activation")

    def test_lacking_activations(self):
        check_lacks(DeadUnits, TraceBuilder().trace, "an activation function that torch knows")

    def test_ten_different_inputs(self):
        b, _ = network(34)
        for step in b.steps:
            b.trace.add_vector(step, 0, "row_marks", np.arange(64) % 10)
        check_lacks(DeadUnits, b.trace, "100 different inputs of an activation")

    def test_different_inputs(self):
        b, site = network(34)
        for step in b.steps:
            b.trace.add_vector(step, 0, "row_marks", np.arange(64) + 64 * step)
        check_fires(DeadUnits, b.trace, at=site)


class TestExperts:
    """What a router selects is no proof; batches of varying size are."""

    @pytest.mark.parametrize("size", [lambda _: 200, lambda step: 120 + 2 * step], ids=["steady", "varying"])
    def test_a_selection_of_the_batch(self, size):
        b, _ = network(lambda step: batch(34, size=60 + 7 * step, seed=step))
        everything = b.activation("gelu", pre=lambda step: batch(0, size=size(step), seed=step))
        b.edge(everything, b.trace.sites[0], direct=False)
        check_silent(DeadUnits, b.trace)

    def test_sequences_of_varying_length(self):
        b, site = network(lambda step: batch(34 if step else 0, size=60 + 7 * step, seed=step))
        before = b.activation("gelu", pre=lambda step: batch(0, size=60 + 7 * step, seed=step))
        pooled = b.activation("gelu", pre=lambda step: batch(0, size=50, seed=step))
        b.edge(before, b.trace.sites[0], direct=False)
        b.edge(pooled, b.trace.sites[0], direct=False)
        check_fires(DeadUnits, b.trace, at=site)
