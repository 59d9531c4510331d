import numpy as np
import pytest

from unstuck.rules.gradient.exploding_gradients import (
    LAST_FIRST_STEP,
    MAX_GROWTH,
    MAX_SLOPE,
    MIN_SITES,
    ExplodingGradients,
    chains,
)
from unstuck.trace import Edge, Location, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, forget, normal


def network(decades, depth=8, steps=range(12), power=None):
    """A plain chain of weight layers whose gradient grows by `decades` in all from the last layer to the first."""
    b, layers, last = TraceBuilder(steps), [], ()
    for number in range(depth):
        last = b.layer(f"fc{number}", weight=normal(0.1, 4, 4), far=last)
        layers.append(last)
    b.loss(after=last)
    for number, layer in enumerate(layers):
        share = 1 - number / (depth - 1)
        b.record(
            layer,
            Role.OUTPUT_GRADIENT,
            lambda step, n=number, s=share: gradient(power(n, step) if power else decades * s),
        )
    return b, layers


def gradient(power):
    return normal(10.0**power, 32, 4)


class TestSilent:
    def test_even_gradients(self):
        check_silent(ExplodingGradients, network(0)[0].trace)

    def test_shrinking_gradients(self):
        check_silent(ExplodingGradients, network(-6)[0].trace)

    def test_short_chain(self):
        check_silent(ExplodingGradients, network(6, depth=MIN_SITES - 1)[0].trace)

    def test_very_deep_chain_with_a_gentle_slope(self):
        check_silent(ExplodingGradients, network(2.2, depth=40)[0].trace)

    def test_one_large_factor(self):
        check_silent(ExplodingGradients, network(0, power=lambda n, _: 4.0 if n < 4 else 0.0)[0].trace)

    def test_one_step_with_a_large_gradient(self):
        check_silent(ExplodingGradients, network(0, power=lambda n, step: 7.0 - n if step == 3 else 0.0)[0].trace)

    def test_residual_connections(self):
        b, layers = network(5)
        for first, second in zip(layers, layers[2:], strict=False):
            b.trace.edges.add(Edge(first.index, second.index, direct=False))
        check_silent(ExplodingGradients, b.trace)

    def test_one_layer_again_and_again(self):
        b, layers = network(5)
        for layer in layers:
            layer.parameters = layers[0].parameters
        check_silent(ExplodingGradients, b.trace)

    def test_gradients_of_zero(self):
        b, layers = network(5)
        for step in b.steps:
            forget(b.trace, layers[0], Role.OUTPUT_GRADIENT, step)
        b.record(layers[0], Role.OUTPUT_GRADIENT, np.zeros((32, 4)))
        check_silent(ExplodingGradients, b.trace)


class TestFires:
    def test_explosion(self):
        b, layers = network(3.5)
        finding = check_fires(
            ExplodingGradients,
            b.trace,
            at=layers[1],
            message="gradients grow 3,162-fold over the 8 weight layers from fc7 (linear) back to fc0 (linear), "
            "0.50 decades per layer; 100-fold is the limit",
        )
        assert finding.measured == pytest.approx(10**3.5)
        assert (finding.threshold, finding.steps) == (MAX_GROWTH, (0, 11))

    def test_only_at_the_start(self):
        b, _ = network(0, power=lambda n, step: (7 - n) * 0.5 if step <= LAST_FIRST_STEP else 0.0)
        (finding,) = ExplodingGradients().detect(b.trace)
        assert finding.steps == (0, LAST_FIRST_STEP)

    def test_points_at_the_line_with_most_of_the_growth(self):
        b, layers = network(3.5)
        for layer in layers[3:6]:
            layer.location = Location("/home/user/train.py", 77)
        check_fires(ExplodingGradients, b.trace, at=layers[3])


def test_threshold():
    for depth in (8, 40):
        limit = max(np.log10(MAX_GROWTH), MAX_SLOPE * (depth - 1))
        check_silent(ExplodingGradients, network(limit * 0.99, depth=depth)[0].trace)
        assert len(list(ExplodingGradients().detect(network(limit * 1.01, depth=depth)[0].trace))) == 1


def test_chains_follow_any_function_between_the_layers():
    b, layers = network(0, depth=5)
    assert list(chains(b.trace)) == [layers]


def test_needs_gradients():
    b = TraceBuilder()
    b.layer("fc", weight=normal(0.1, 4, 4))
    check_lacks(ExplodingGradients, b.trace, "gradients at the outputs of layers")
