import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.gradient.zero_gradient import FIRST_STEP, MIN_STEPS, ZeroGradient
from unstuck.trace import Edge, Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = range(FIRST_STEP + MIN_STEPS)
SOME, NONE = normal(0.1, 4, 4), np.zeros((4, 4))


def network(*gradients, steps=STEPS, bias=None):
    """A chain of layers with one gradient (or one per step) for each weight, and one for all biases, if any."""
    b, layers, last = TraceBuilder(steps), [], ()
    for number, gradient in enumerate(gradients):
        last = b.layer(f"fc{number}", weight=normal(0.1, 4, 4), bias=None if bias is None else np.zeros(4), far=last)
        layers.append(last)
        for parameter, value in zip(b.trace.parameters_of(last), (gradient, bias), strict=False):
            b.record(parameter, Role.GRADIENT, value)
    b.loss(after=last)
    return b, layers


def stop(b, before, steps=STEPS):
    """An operation that ends the gradient on its way to `before`."""
    site = b.site(Kind.OPERATION, "round")
    for step in steps:
        b.trace.add_scalar(step, site.index, "stopped", 16)
        b.trace.add_vector(step, site.index, "inputs", [before.index])
    return site


class TestSilent:
    def test_gradients(self):
        check_silent(ZeroGradient, network(SOME, SOME)[0].trace)

    def test_the_first_steps_below_a_layer_that_starts_at_zero(self):
        check_silent(ZeroGradient, network(lambda step: NONE if step < FIRST_STEP else SOME, SOME)[0].trace)

    def test_one_step_with_a_gradient(self):
        check_silent(ZeroGradient, network(lambda step: SOME if step == FIRST_STEP + 1 else NONE, SOME)[0].trace)

    def test_a_bias_that_has_one(self):
        check_silent(ZeroGradient, network(NONE, SOME, bias=np.ones(4))[0].trace)

    def test_one_row_of_an_embedding(self):
        rows = NONE.copy()
        rows[1] = 0.1
        check_silent(ZeroGradient, network(rows, SOME)[0].trace)

    def test_a_head_whose_loss_has_a_weight_of_zero(self):
        b, layers = network(SOME, SOME)
        head = b.layer("extra", weight=normal(0.1, 4, 4), far=layers[0])
        b.record(b.trace.parameters_of(head)[0], Role.GRADIENT, NONE)
        check_silent(ZeroGradient, b.trace)

    def test_an_expert_beside_chosen_ones(self):
        b, (stem, expert, head) = network(SOME, NONE, SOME)
        other = b.layer("expert", weight=normal(0.1, 4, 4), far=stem)
        b.edge(other, head, direct=False)
        b.record(b.trace.parameters_of(other)[0], Role.GRADIENT, SOME)
        check_silent(ZeroGradient, b.trace)
        b.trace.edges.discard(Edge(stem.index, other.index, direct=False))
        assert expert.index != other.index

    def test_a_layer_that_was_given_nothing(self):
        b, (first, _) = network(NONE, SOME)
        b.record(first, Role.OUTPUT, np.zeros((0, 4)))
        check_silent(ZeroGradient, b.trace)

    def test_a_stop_that_the_gradient_goes_round(self):
        b, (first, _) = network(SOME, SOME)
        stop(b, first)
        check_silent(ZeroGradient, b.trace)


class TestFires:
    def test_at_the_operation_that_stops_it(self):
        b, (_, encoder, _) = network(NONE, NONE, SOME)
        check_fires(
            ZeroGradient,
            b.trace,
            at=stop(b, encoder),
            message="round passes no gradient on: the gradients of 2 layers were exactly zero in every element "
            "at all 4 sampled steps from step 6 on",
            severity=Severity.ERROR,
        )

    def test_at_the_last_layer_without_a_gradient(self):
        b, (_, second, _) = network(NONE, NONE, SOME)
        finding = check_fires(ZeroGradient, b.trace, at=second)
        assert (finding.measured, finding.steps) == (2.0, (STEPS[FIRST_STEP], STEPS[-1]))

    def test_a_whole_network(self):
        b, (_, last) = network(NONE, NONE)
        check_fires(ZeroGradient, b.trace, at=last)


@pytest.mark.parametrize("number", [MIN_STEPS - 1, MIN_STEPS])
def test_an_operation_needs_to_stop_it_often(number):
    b, (first, _) = network(NONE, SOME)
    site = stop(b, first, STEPS[-number:])
    check_fires(ZeroGradient, b.trace, at=site if number == MIN_STEPS else first)


def test_needs_later_gradients():
    what = "gradients of a parameter at 4 sampled steps from step 6 on"
    check_lacks(ZeroGradient, network(NONE, SOME, steps=STEPS[:-1])[0].trace, what)
