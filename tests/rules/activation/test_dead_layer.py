import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.activation.dead_layer import MAX_SPREAD, DeadLayer
from unstuck.rules.activation.dead_units import DeadUnits

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal
from .test_dead_units import BATCH, UNITS, batch

LACKS = "4 sampled steps with 1,000 elements of each unit of an activation"


def network(pre, *, op="relu", steps=range(20), marks=lambda step: np.arange(64) + 64 * step):
    """Data, a layer, its function, and an output layer."""
    b = TraceBuilder(steps)
    layer = b.layer("fc1")
    site = b.activation(op, after=layer, pre=pre)
    b.loss(after=b.layer("fc2", after=site))
    for step in b.steps if marks is not None else ():
        b.trace.add_vector(step, layer.index, "row_marks", marks(step))
    return b, site


def constant(spread=0.0):
    """Every row the same, but for noise that is `spread` times as large."""
    level = np.linspace(0.5, 2.0, UNITS)

    def per_step(step):
        rows = np.where(np.arange(BATCH) % 2, 0.0, spread)[:, None]
        return level * (1 + step) * (1 + rows)

    return per_step


class TestSilent:
    def test_a_unit_that_is_left(self):
        check_silent(DeadLayer, network(lambda step: batch(UNITS - 1, seed=step))[0].trace)

    def test_a_layer_that_came_back(self):
        check_silent(DeadLayer, network(lambda step: batch(UNITS if step < 19 else 0, seed=step))[0].trace)

    def test_all_saturated_on_both_sides(self):
        check_silent(
            DeadLayer, network(lambda step: 5 * np.sign(normal(1, BATCH, UNITS, seed=step)), op="tanh")[0].trace
        )

    def test_a_satisfied_hinge(self):
        b = TraceBuilder(range(20))
        b.loss(after=b.activation("relu", pre=-np.ones((BATCH, UNITS))))
        check_silent(DeadLayer, b.trace)

    @pytest.mark.parametrize("share", [1, 2])
    def test_not_finite_is_not_the_same(self, share):
        def spoiled(step):
            return np.where(np.arange(BATCH) % share == 0, np.nan, 1.0)[:, None] * constant()(step)

        check_silent(DeadLayer, network(spoiled)[0].trace)

    def test_made_from_parameters_alone(self):
        check_silent(DeadLayer, network(constant(), marks=None)[0].trace)

    def test_every_row_of_the_data_the_same(self):
        check_lacks(
            DeadLayer,
            network(constant(), marks=lambda step: np.ones(64))[0].trace,
            "100 different inputs of an activation",
        )

    def test_an_expert_behind_a_router(self):
        b, _ = network(lambda step: batch(UNITS, size=60 + 7 * step, seed=step))
        everything = b.activation("gelu", pre=lambda step: batch(0, size=300, seed=step))
        b.edge(everything, b.trace.sites[0], direct=False)
        check_silent(DeadLayer, b.trace)


class TestFires:
    def test_no_unit_responds(self):
        b, site = network(lambda step: batch(UNITS, seed=step))
        finding = check_fires(
            DeadLayer,
            b.trace,
            at=site,
            severity=Severity.ERROR,
            message="none of the 100 units of relu responded to any of the 1,000 elements of steps 10 to 19",
        )
        assert (finding.measured, finding.threshold, finding.unit) == (0.0, 1.0, "units")
        check_silent(DeadUnits, b.trace)

    @pytest.mark.parametrize("op", ["relu", "tanh"])
    def test_the_same_for_every_example(self, op):
        b, site = network(constant(), op=op)
        check_fires(
            DeadLayer,
            b.trace,
            at=site,
            message=f"none of the 100 units of {op} told one of the 1,000 elements from another of its batch of steps "
            "10 to 19",
        )

    def test_the_first_of_several(self):
        b, site = network(lambda step: batch(UNITS, seed=step))
        b.activation("relu", after=b.layer("fc3", after=site), pre=constant())
        check_fires(DeadLayer, b.trace, at=site)


@pytest.mark.parametrize(("spread", "fires"), [(0.9 * MAX_SPREAD, True), (1.1 * MAX_SPREAD, False)])
def test_threshold(spread, fires):
    b, site = network(constant(spread))
    if fires:
        check_fires(DeadLayer, b.trace, at=site)
    else:
        check_silent(DeadLayer, b.trace)


def test_needs_a_window():
    check_lacks(DeadLayer, network(lambda step: batch(UNITS), steps=range(9))[0].trace, LACKS)
