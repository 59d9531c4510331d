import numpy as np
import pytest

from unstuck.rules.gradient.vanishing_gradients import MAX_SHRINKAGE, MIN_SITES, VanishingGradients, chains
from unstuck.trace import Edge, Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, forget, normal


def network(decades, depth=8, steps=range(10), op="tanh"):
    """A plain chain whose gradient shrinks by `decades` in all from the last activation to the first."""
    b, sites, last = TraceBuilder(steps), [], ()
    for number in range(depth):
        layer = b.layer(f"fc{number}", weight=normal(0.1, 4, 4), after=last)
        last = b.activation(op, f"act{number}", after=layer, pre=normal(1.0, 8, 4))
        sites.append(last)
    b.loss(after=b.layer("head", after=last))
    for number, site in enumerate(sites):
        b.record(site, Role.OUTPUT_GRADIENT, gradient(decades * (number / (depth - 1) - 1)))
    return b, sites


def gradient(power):
    return normal(10.0**power, 32, 4)


class TestSilent:
    def test_even_gradients(self):
        check_silent(VanishingGradients, network(0)[0].trace)

    def test_growing_gradients(self):
        check_silent(VanishingGradients, network(-4)[0].trace)

    def test_short_chain(self):
        check_silent(VanishingGradients, network(6, depth=MIN_SITES - 1)[0].trace)

    def test_very_deep_chain_with_a_gentle_slope(self):
        check_silent(VanishingGradients, network(2.2, depth=30)[0].trace)

    def test_branches_inside_residual_connections(self):
        # the stream goes round each activation: edges from each layer's input to the next layer's
        b, sites = network(5)
        for first, second in zip(sites, sites[2:], strict=False):
            b.trace.edges.add(Edge(first.index, second.index, direct=False))
        check_silent(VanishingGradients, b.trace)

    def test_one_step_with_a_tiny_gradient(self):
        b, sites = network(0)
        forget(b.trace, sites[0], Role.OUTPUT_GRADIENT, 3)
        b.record(sites[0], Role.OUTPUT_GRADIENT, gradient(-9), steps=[3])
        check_silent(VanishingGradients, b.trace)

    def test_zero_gradient_in_the_first_step_below_a_zero_output_layer(self):
        b, sites = network(0)
        for site in sites:
            forget(b.trace, site, Role.OUTPUT_GRADIENT, 0)
            b.record(site, Role.OUTPUT_GRADIENT, np.zeros((32, 4)), steps=[0])
        check_silent(VanishingGradients, b.trace)

    def test_unrolled_recurrence_over_one_layer(self):
        b, _sites = network(6)
        layers = b.trace.of_kind(Kind.WEIGHT_LAYER)
        for layer in layers[1:-1]:
            layer.parameters = layers[0].parameters
        check_silent(VanishingGradients, b.trace)

    def test_module_used_in_a_loop(self):
        b, sites = network(6)
        b.trace.edges.add(Edge(sites[-1].index, sites[0].index))
        check_silent(VanishingGradients, b.trace)

    def test_two_networks_side_by_side(self):
        # each has even gradients of its own scale; in plain order they would look like one steep chain
        b, sites = network(0)
        cut = sites[4].index - 2
        b.trace.edges = {e for e in b.trace.edges if (e.producer < cut) == (e.consumer < cut)}
        for site in sites[:4]:
            forget(b.trace, site, Role.OUTPUT_GRADIENT)
            b.record(site, Role.OUTPUT_GRADIENT, gradient(-6))
        assert [len(chain) for chain in chains(b.trace)] == [4, 4]
        check_silent(VanishingGradients, b.trace)

    def test_nan_gradients(self):
        b, sites = network(0)
        for site in sites:
            forget(b.trace, site, Role.OUTPUT_GRADIENT)
            b.record(site, Role.OUTPUT_GRADIENT, np.full((32, 4), np.nan))
        check_silent(VanishingGradients, b.trace)


class TestFires:
    def test_deep_sigmoid_chain(self):
        b, sites = network(4.5, depth=10)
        finding = check_fires(
            VanishingGradients,
            b.trace,
            at=sites[0],
            message="gradients shrink 31,623-fold over the 10 activation functions "
            "from act9 (tanh) back to act0 (tanh), 0.50 decades per layer; 200-fold is the limit",
        )
        assert finding.measured == pytest.approx(10**4.5)
        assert (finding.threshold, finding.unit, finding.steps) == (MAX_SHRINKAGE, "1", (0, 9))

    def test_whole_of_a_short_run(self):
        b, sites = network(4.0, steps=[0])
        check_fires(VanishingGradients, b.trace, at=sites[0])

    def test_first_sites_without_any_gradient_are_left_out(self):
        b, sites = network(5.0)
        forget(b.trace, sites[0], Role.OUTPUT_GRADIENT)
        b.record(sites[0], Role.OUTPUT_GRADIENT, np.zeros((32, 4)))
        check_fires(VanishingGradients, b.trace, at=sites[1])

    def test_residual_stream_of_activations_after_the_addition(self):
        # each block: conv -> relu inside, addition, relu on the stream; only the stream's sites form the chain
        b = TraceBuilder()
        stream = [b.activation("relu", "stream0", after=b.layer("stem"), pre=normal(1.0, 8, 4))]
        for number in range(1, 6):
            inner = b.activation("relu", f"inner{number}", after=b.layer(after=stream[-1]))
            end = b.layer(after=inner)
            stream.append(b.activation("relu", f"stream{number}", far=[end, stream[-1]]))
            b.record(inner, Role.OUTPUT_GRADIENT, gradient(-9))
        for number, site in enumerate(stream):
            b.record(site, Role.OUTPUT_GRADIENT, gradient(number - 5))
        b.loss(after=b.layer("head", after=stream[-1]))
        found = check_fires(VanishingGradients, b.trace, at=stream[0])
        assert found.message.startswith("gradients shrink 100,000-fold over the 6 activation functions from stream5")

    def test_two_heads_on_one_trunk_count_once(self):
        b, sites = network(4.0)
        second = b.activation("tanh", after=b.layer("aux", after=sites[-2]))
        b.record(second, Role.OUTPUT_GRADIENT, gradient(0))
        b.loss(after=second)
        check_fires(VanishingGradients, b.trace, at=sites[0])


@pytest.mark.parametrize(("decades", "fires"), [(2.29, False), (2.31, True)])
def test_threshold_of_the_shrinkage(decades, fires):
    b, sites = network(decades)
    if fires:
        check_fires(VanishingGradients, b.trace, at=sites[0])
    else:
        check_silent(VanishingGradients, b.trace)


@pytest.mark.parametrize(("slope", "fires"), [(0.079, False), (0.081, True)])
def test_threshold_of_the_slope(slope, fires):
    b, sites = network(slope * 39, depth=40)
    if fires:
        check_fires(VanishingGradients, b.trace, at=sites[0])
    else:
        check_silent(VanishingGradients, b.trace)


def test_lacking():
    b = TraceBuilder()
    b.activation("relu", pre=normal(1.0, 8, 4))
    check_lacks(VanishingGradients, b.trace, "gradients at the outputs of layers")
