import numpy as np
import pytest

from unstuck.rules.init.born_dead import MAX_DEAD, MIN_ELEMENTS, BornDead
from unstuck.rules.shown import MIN_DIFFERENT

from ..activation.test_dead_units import batch
from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

LACKS = "300 elements of each unit of an activation in steps 0 to 4, 100 unlike"


def network(dead, *, op="relu", steps=range(10), size=100, marks=None):
    """A layer of 50 units, `dead` of which never respond; `marks` are those of the rows of each batch."""
    b = TraceBuilder(steps)
    layer = b.layer("fc", weight=normal(0.1, 50, 4))
    per_step = dead if callable(dead) else lambda step: batch(dead, units=50, size=size, seed=step)
    site = b.activation(op, after=layer, pre=per_step)
    b.loss(after=b.layer("head", weight=normal(0.1, 5, 50), after=site))
    for step in b.steps if marks is not None else ():
        b.trace.add_vector(step, layer.index, "row_marks", marks(step))
    return b, site


class TestSilent:
    def test_half_of_all_elements_are_zero(self):
        check_silent(BornDead, network(0)[0].trace)

    def test_units_that_wake_up_within_the_first_steps(self):
        check_silent(BornDead, network(lambda step: batch(40 if step < 4 else 0, units=50, seed=step))[0].trace)

    def test_units_that_die_later(self):
        check_silent(BornDead, network(lambda step: batch(40 if step > 0 else 0, units=50, seed=step))[0].trace)

    def test_a_layer_that_is_dead_as_a_whole(self):
        check_silent(BornDead, network(50)[0].trace)

    def test_two_units_of_a_small_layer(self):
        check_silent(BornDead, network(lambda step: batch(2, units=5, seed=step))[0].trace)

    def test_functions_that_flatten_on_both_sides(self):
        check_silent(BornDead, network(lambda step: 5.0 * np.ones((100, 50)), op="sigmoid")[0].trace)

    def test_an_output_that_feeds_only_the_loss(self):
        b = TraceBuilder()
        b.loss(after=b.activation("relu", pre=lambda step: batch(40, units=50, seed=step)))
        check_silent(BornDead, b.trace)

    def test_loaded_weights(self):
        b, _ = network(40)
        b.trace.facts.weights_loaded = True
        check_silent(BornDead, b.trace)

    def test_ten_different_inputs(self):
        check_lacks(BornDead, network(40, marks=lambda step: np.arange(64) % 10)[0].trace, LACKS)

    def test_an_expert_behind_a_router(self):
        b, _ = network(lambda step: batch(40, units=50, size=60 + 7 * step, seed=step))
        everything = b.activation("gelu", pre=lambda step: batch(0, units=50, size=200, seed=step))
        b.edge(everything, b.trace.sites[0], direct=False)
        assert BornDead().lacking(b.trace) is None  # the other activation can be judged
        check_silent(BornDead, b.trace)

    def test_units_just_below_the_interval(self):
        def near(step):
            x = batch(40, units=50, seed=step)
            x[:, :40] += 0.2  # now from -0.4 on
            return x

        check_silent(BornDead, network(near)[0].trace)


class TestFires:
    def test_from_the_first_step(self):
        b, site = network(15)
        finding = check_fires(
            BornDead,
            b.trace,
            at=site,
            message="15 of 50 units of relu (30 %) respond to nothing from the start, to none of 500 elements; "
            "below 25 % is healthy",
        )
        assert (finding.measured, finding.threshold, finding.unit, finding.steps) == (30.0, MAX_DEAD, "%", (0, 4))

    def test_different_inputs_in_every_batch(self):
        b, site = network(15, marks=lambda step: np.arange(64) + 64 * step)
        check_fires(BornDead, b.trace, at=site)

    def test_batches_that_vary_in_size_for_all_layers(self):
        b, site = network(lambda step: batch(15, units=50, size=80 + step, seed=step))
        before = b.activation("gelu", pre=lambda step: batch(0, units=50, size=80 + step, seed=step))
        b.edge(before, b.trace.sites[0], direct=False)
        check_fires(BornDead, b.trace, at=site)


def test_as_few_units_as_it_takes():  # one fewer: `test_two_units_of_a_small_layer`
    b, site = network(lambda step: batch(3, units=5, seed=step))
    check_fires(BornDead, b.trace, at=site)


def test_threshold():
    check_silent(BornDead, network(12)[0].trace)
    b, site = network(13)
    check_fires(BornDead, b.trace, at=site)


@pytest.mark.parametrize(("different", "fires"), [(MIN_DIFFERENT - 1, False), (MIN_DIFFERENT, True)])
def test_variety(different, fires):
    b, site = network(15, marks=lambda step: np.arange(100 * step, 100 * step + 100) % different)
    if fires:
        check_fires(BornDead, b.trace, at=site)
    else:
        check_lacks(BornDead, b.trace, LACKS)


def test_needs_elements():
    check_lacks(BornDead, network(15, size=MIN_ELEMENTS // 5 - 1)[0].trace, LACKS)
    check_lacks(BornDead, network(15, steps=range(1, 10))[0].trace, "the first step of training")
