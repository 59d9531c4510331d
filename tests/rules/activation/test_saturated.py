import numpy as np
import pytest

from unstuck.rules.activation.saturated import MAX_SATURATED, Saturated
from unstuck.rules.window import MIN_SAMPLED_STEPS
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def share(percent, units=20, elements=500):
    """Pre-activations of which exactly `percent` % are saturated, half of them on each side."""
    x = np.zeros(units * elements)
    n = round(x.size * percent / 100)
    x[: n // 2], x[n // 2 : n] = 6.0, -6.0
    return x.reshape(elements, units)


def network(pre, op="tanh", steps=range(10)):
    b = TraceBuilder(steps)
    site = b.activation(op, after=b.layer("fc1"), pre=pre)
    b.loss(after=b.layer("fc2", after=site))
    return b, site


class TestSilent:
    def test_healthy_deep_tanh(self):
        check_silent(Saturated, network(normal(1.0, 500, 20))[0].trace)

    @pytest.mark.parametrize("op", ["hardtanh", "tanh", "sigmoid", "softsign"])
    def test_normalised_pre_activations(self, op):
        check_silent(Saturated, network(normal(1.0, 500, 20), op)[0].trace)

    def test_relu_is_flat_on_one_side_only(self):
        check_silent(Saturated, network(share(80) - 1, "relu")[0].trace)

    def test_output_sigmoid_that_feeds_only_the_loss(self):
        b = TraceBuilder()
        sigmoid = b.activation("sigmoid", after=b.layer(), pre=share(90))
        b.loss("binary_cross_entropy", after=sigmoid)
        check_silent(Saturated, b.trace)

    def test_output_tanh_of_a_hand_written_loss(self):
        b = TraceBuilder()
        b.loss("objective", far=b.activation("tanh", after=b.layer(), pre=share(90)))
        check_silent(Saturated, b.trace)

    @pytest.mark.parametrize("op", ["sigmoid", "tanh"])
    def test_gates_and_gated_values_whose_output_is_multiplied(self, op):
        b = TraceBuilder()
        gate = b.activation(op, after=b.layer("gate"), pre=share(90))
        b.loss(after=b.layer("head", far=gate))
        check_silent(Saturated, b.trace)

    def test_saturated_for_less_than_half_of_the_sampled_steps(self):
        check_silent(Saturated, network(lambda step: share(90 if step < 4 else 3))[0].trace)

    def test_a_site_seen_too_rarely(self):
        b, _site = network({step: share(90) for step in range(MIN_SAMPLED_STEPS - 1)})
        check_silent(Saturated, b.trace)

    def test_nothing_finite(self):
        check_silent(Saturated, network(np.full((500, 20), np.nan))[0].trace)


class TestFires:
    def test_hardtanh_has_a_limit_of_its_own(self):
        check_silent(Saturated, network(share(47), "hardtanh")[0].trace)
        b, site = network(share(48), "hardtanh")
        message = "48 % of the outputs of hardtanh are saturated (|pre-activation| > 1.00); at most 48 % is healthy"
        check_fires(Saturated, b.trace, at=site, message=message)

    def test_unit_normal_weights_before_tanh(self):
        b, site = network(share(61))
        finding = check_fires(
            Saturated,
            b.trace,
            at=site,
            message="61 % of the outputs of tanh are saturated (|pre-activation| > 2.08); at most 25 % is healthy",
        )
        assert finding.measured == pytest.approx(61.0)
        assert (finding.threshold, finding.unit, finding.steps) == (MAX_SATURATED, "%", (0, 9))
        assert finding.evidence[0].value == pytest.approx(b.trace.summary(site, Role.INPUT, 0).std)

    def test_hidden_sigmoid(self):
        b, site = network(share(50), "sigmoid")
        check_fires(Saturated, b.trace, at=site)

    def test_uneven_interval(self):
        b, site = network(share(50))
        site.interval = (-2.0, 1.0)
        assert "(pre-activation outside -2.00 … 1.00)" in check_fires(Saturated, b.trace, at=site).message

    def test_whole_of_a_short_run(self):
        b, site = network(share(50), steps=[0])
        check_fires(Saturated, b.trace, at=site)


def test_threshold():
    check_silent(Saturated, network(share(MAX_SATURATED))[0].trace)
    b, site = network(share(MAX_SATURATED + 0.1))
    check_fires(Saturated, b.trace, at=site)


def test_lacking():
    b = TraceBuilder()
    b.layer()
    check_lacks(Saturated, b.trace, "an activation function that torch knows")
    assert b.trace.of_kind(Kind.ACTIVATION) == []
