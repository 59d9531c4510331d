import numpy as np
import pytest

from unstuck.rules.gradient.underflowing_gradients import MAX_SUBNORMAL, UnderflowingGradients
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

TINY = 2.0**-14


def network(gradient, limit=TINY, backward=True):
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 4, 4))
    b.record(layer, Role.OUTPUT_GRADIENT, gradient)
    if limit:
        b.scalar(layer, "smallest_normal", limit, b.steps)
    return b, layer, b.site(Kind.BACKWARD, "backward") if backward else None


def mixed(share, large):
    """A gradient of 1,000 elements of which `share` are subnormal in float16 and the others `large`."""
    x = np.full(1000, large)
    x[: round(share * 1000)] = TINY / 8
    return x


class TestSilent:
    def test_in_range(self):
        check_silent(UnderflowingGradients, network(normal(1e-3, 32, 4))[0].trace)

    def test_zeros_alone(self):
        gradient = normal(1e-3, 32, 4)
        gradient[::2] = 0.0
        check_silent(UnderflowingGradients, network(gradient)[0].trace)
        check_silent(UnderflowingGradients, network(np.zeros((32, 4)))[0].trace)

    def test_many_small_elements_that_make_up_little(self):
        check_silent(UnderflowingGradients, network(mixed(0.9, 1e-2))[0].trace)

    def test_a_few_odd_steps(self):
        b = network(lambda step: normal(1e-7 if step < 4 else 1e-3, 32, 4))[0]
        check_silent(UnderflowingGradients, b.trace)

    def test_a_loss_scale_that_lifts_them(self):
        check_silent(UnderflowingGradients, network(normal(1e-6, 32, 4), TINY / 2**16)[0].trace)


class TestFires:
    def test_tiny_gradients(self):
        b, _, call = network(normal(1e-6, 32, 4))
        finding = check_fires(
            UnderflowingGradients,
            b.trace,
            at=call,
            message="100 % of the gradient elements at fc (linear) that are not zero are below 6.1e-05, the least "
            "normal number of float16, and their root mean square is 1e-06; so at 1 of 1 layers in float16",
        )
        assert finding.measured == 1.0

    def test_at_the_layer_where_the_call_is_not_known(self):
        b, layer, _ = network(normal(1e-6, 32, 4), backward=False)
        check_fires(UnderflowingGradients, b.trace, at=layer)


@pytest.mark.parametrize(("share", "fires"), [(MAX_SUBNORMAL - 0.01, False), (MAX_SUBNORMAL + 0.01, True)])
def test_threshold(share, fires):
    found = list(UnderflowingGradients().detect(network(mixed(share, TINY * 1.01))[0].trace))
    assert [finding.measured for finding in found] == ([pytest.approx(share)] if fires else [])


def test_needs_half_precision():
    b = network(normal(1e-6, 32, 4), limit=None)[0]
    check_lacks(UnderflowingGradients, b.trace, "a layer that computes in float16")
