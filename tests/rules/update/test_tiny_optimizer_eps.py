import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.update.tiny_optimizer_eps import LEAST, MAX_EPS, SLOW_RATIO, TinyOptimizerEps
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = range(31)
SIZE = 1e-3  # of the gradients


def network(eps, *, op="Adam", dtype="float32", ratio=1e-4, zeros=False, loss=1.0):
    b = TraceBuilder(STEPS)
    layer = b.layer("fc", fan_in=16)
    value, gradient = normal(0.5, 10, 16), normal(SIZE, 10, 16)
    if zeros:
        gradient[:5] = 0.0
    weight = b.parameter("fc.weight", layer, "weight", value)
    weight.dtype = dtype
    b.record(weight, Role.GRADIENT, gradient)
    b.record(weight, Role.UPDATE, value * ratio)
    optimizer = b.site(Kind.OPTIMIZER, op, parameters=(weight.index,))
    if eps is not None:
        b.scalar(optimizer, "eps", eps, STEPS)
    b.trace.objective = {step: loss if step > STEPS[-1] // 2 else 1.0 for step in STEPS}
    return b, optimizer


class TestSilent:
    @pytest.mark.parametrize(
        ("eps", "dtype"), [(1e-8, "float32"), (1e-10, "float32"), (1e-8, "bfloat16"), (1e-6, "float16")]
    )
    def test_usual_values(self, eps, dtype):
        check_silent(TinyOptimizerEps, network(eps, dtype=dtype)[0].trace)

    def test_a_large_one_with_a_learning_rate_to_match(self):
        check_silent(TinyOptimizerEps, network(1.0, op="RMSprop", ratio=1e-2)[0].trace)

    def test_a_large_one_with_which_the_network_learns(self):
        check_silent(TinyOptimizerEps, network(1.0, loss=0.4)[0].trace)

    def test_gradients_below_the_usual_eps(self):
        b, optimizer = network(1e-8)
        b.record(b.trace.sites[optimizer.parameters[0]], Role.GRADIENT, np.full((10, 16), 1e-12))
        check_silent(TinyOptimizerEps, b.trace)


class TestFires:
    def test_none(self):
        b, optimizer = network(0.0, op="RMSprop", zeros=True)
        check_fires(
            TinyOptimizerEps,
            b.trace,
            at=optimizer,
            message="eps of RMSprop is 0: elements that never had a gradient are updated by 0 / 0; "
            "50 % of the gradients of 1 parameters were exactly zero",
            severity=Severity.ERROR,
        )

    def test_none_where_no_gradient_is_zero(self):
        b, optimizer = network(0.0)
        check_fires(TinyOptimizerEps, b.trace, at=optimizer, severity=Severity.WARNING)

    def test_rounded_to_none(self):
        b, optimizer = network(1e-8, dtype="float16")
        assert "1e-08, which is 0 in float16" in check_fires(TinyOptimizerEps, b.trace, at=optimizer).message

    def test_larger_than_the_gradients(self):
        b, optimizer = network(0.1)
        check_fires(
            TinyOptimizerEps,
            b.trace,
            at=optimizer,
            message="eps of Adam is 0.1, 100 times the root mean square of the gradients (0.001), "
            "and shrinks the updates to 0.0001 of the weights",
        )


def test_thresholds():
    check_silent(TinyOptimizerEps, network(SIZE * MAX_EPS * 0.99)[0].trace)
    b, optimizer = network(SIZE * MAX_EPS * 1.01)
    check_fires(TinyOptimizerEps, b.trace, at=optimizer)
    least = LEAST["float16"]
    check_silent(TinyOptimizerEps, network(least * 1.01, dtype="float16", ratio=1.0)[0].trace)
    b, optimizer = network(least * 0.99, dtype="float16", ratio=1.0)
    check_fires(TinyOptimizerEps, b.trace, at=optimizer)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold_of_the_updates(side):
    b, optimizer = network(1.0, ratio=SLOW_RATIO * side)
    check_fires(TinyOptimizerEps, b.trace, at=optimizer) if side < 1 else check_silent(TinyOptimizerEps, b.trace)


@pytest.mark.parametrize(("op", "eps"), [("SGD", None), ("Sophia", 0.0)])
def test_needs_an_optimizer_with_eps(op, eps):
    check_lacks(TinyOptimizerEps, network(eps, op=op)[0].trace, "an optimizer of torch that divides by eps")
