import numpy as np
import pytest

from unstuck.rules.init.symmetric_units import MIN_SHARE, PROOF_STEPS, SymmetricUnits
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

UNITS = 20
CONSTANT = np.full((UNITS, 5), 0.1)


def network(*, same=UNITS, same_gradient=UNITS, gradient=None, kind=Kind.WEIGHT_LAYER, **judged):
    """hidden layer (judged) -> tanh -> random output layer -> loss"""
    b = TraceBuilder()
    hidden = b.layer("hidden", weight=CONSTANT, kind=kind)
    tanh = b.activation("tanh", after=hidden)
    output = b.layer("output", weight=normal(0.3, 3, UNITS), after=tanh)
    b.loss(after=output)
    count(b, hidden, same, same_gradient, normal(1e-3, UNITS, 5) if gradient is None else gradient)
    count(b, output, 0, 0, normal(1e-2, 3, UNITS), units=3)
    return b, hidden, output


def count(b, layer, same, same_gradient, gradient, units=UNITS):
    weight = b.trace.sites[layer.parameters[0]]
    b.record(weight, Role.GRADIENT, gradient)
    for name, value in (("units", units), ("identical_units", same), ("identical_gradient_units", same_gradient)):
        b.scalar(weight, name, value)


class TestSilent:
    def test_random_weights(self):
        check_silent(SymmetricUnits, network(same=0, same_gradient=0)[0].trace)

    def test_zero_branch_end_whose_gradients_differ(self):
        check_silent(SymmetricUnits, network(same_gradient=0)[0].trace)

    def test_random_weights_below_a_zero_branch_end_get_equal_zero_gradients(self):
        check_silent(SymmetricUnits, network(same=0, gradient=np.zeros((UNITS, 5)))[0].trace)

    def test_zero_gradient_at_first_that_wakes_up(self):
        # zero-initialised branch ends below a zero-initialised head: the head moves first
        b, *_ = network(gradient=lambda step: np.zeros((UNITS, 5)) if step == 0 else normal(1e-3, UNITS, 5))
        check_silent(SymmetricUnits, b.trace)

    def test_zero_output_layer_with_classes_that_the_batch_lacks(self):
        b, _, output = network(same=0, same_gradient=0)
        count(b, output, 3, 3, normal(1e-2, 3, UNITS), units=3)
        check_silent(SymmetricUnits, b.trace)

    def test_embeddings_of_words_that_the_batch_lacks(self):
        check_silent(SymmetricUnits, network(kind=Kind.EMBEDDING)[0].trace)

    def test_loaded_weights(self):
        b, *_ = network()
        b.trace.facts.weights_loaded = True
        check_silent(SymmetricUnits, b.trace)

    def test_a_few_equal_rows_of_coarse_numbers_and_a_few_dead_units(self):
        check_silent(SymmetricUnits, network(same=4, same_gradient=6)[0].trace)

    def test_frozen_layer_has_no_gradient(self):
        b, hidden, _ = network()
        weight = hidden.parameters[0]
        del b.trace._scalars[weight, "identical_gradient_units"]
        check_silent(SymmetricUnits, b.trace)


class TestFires:
    def test_constant_layers(self):
        b, hidden, _ = network()
        finding = check_fires(
            SymmetricUnits,
            b.trace,
            at=hidden,
            message="20 of the 20 units of hidden (linear) start with the weights of another unit, "
            "and 20 get the gradient of another unit",
        )
        assert (finding.measured, finding.threshold, finding.unit) == (20.0, MIN_SHARE * UNITS, "units")

    def test_all_zero_network_never_gets_a_gradient(self):
        b, hidden, _ = network(gradient=np.zeros((UNITS, 5)))
        check_fires(SymmetricUnits, b.trace, at=hidden)

    def test_zero_gradient_that_wakes_up_after_the_proof(self):
        b, hidden, _ = network(
            gradient=lambda step: np.zeros((UNITS, 5)) if step < PROOF_STEPS else normal(1e-3, UNITS, 5)
        )
        check_fires(SymmetricUnits, b.trace, at=hidden)


@pytest.mark.parametrize("name", ["same", "same_gradient"])
def test_threshold(name):
    limit = int(MIN_SHARE * UNITS)
    check_silent(SymmetricUnits, network(**{name: limit})[0].trace)
    b, hidden, _ = network(**{name: limit + 1})
    check_fires(SymmetricUnits, b.trace, at=hidden)


def test_single_unit_is_equal_to_nothing():
    check_silent(SymmetricUnits, network(same=1, same_gradient=1)[0].trace)


def test_lacking():
    b = TraceBuilder()
    what = "a weight layer (a linear map, matmul or convolution with a parameter); gradients of parameters"
    check_lacks(SymmetricUnits, b.trace, what)
