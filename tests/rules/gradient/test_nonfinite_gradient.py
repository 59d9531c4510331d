import numpy as np
import pytest

from unstuck.rules.gradient.nonfinite_gradient import NonfiniteGradient
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, forget, normal

GOOD, BAD = normal(0.1, 4, 4), np.full((4, 4), np.nan)


def network(gradient=GOOD, updated=True):
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.1, 4, 4))
    b.loss(after=layer)
    (weight,) = b.trace.parameters_of(layer)
    b.record(weight, Role.GRADIENT, gradient)
    if updated:
        b.record(weight, Role.UPDATE, GOOD)
    return b, layer, weight


def singular(b, steps, reached=1.0):
    site = b.site(Kind.OPERATION, "sqrt")
    b.scalar(site, "made_nonfinite", 5, steps)
    b.scalar(site, "reached", reached, steps)
    return site


class TestSilent:
    def test_finite_gradients(self):
        check_silent(NonfiniteGradient, network()[0].trace)

    def test_a_loss_that_is_not_finite_either(self):
        b, _, _ = network(lambda step: BAD if step == 3 else GOOD)
        b.trace.objective[3] = float("nan")
        check_silent(NonfiniteGradient, b.trace)

    def test_a_singular_point_whose_gradient_is_mended_before_the_update(self):
        b, _, _ = network()
        singular(b, [3, 4])
        check_silent(NonfiniteGradient, b.trace)

    def test_a_singular_point_that_reaches_no_parameter(self):
        b, _, weight = network()
        singular(b, [3, 4], reached=0.0)
        forget(b.trace, weight, Role.GRADIENT, 3)
        check_silent(NonfiniteGradient, b.trace)

    def test_overflows_that_amp_skips(self):
        b, _, weight = network(lambda step: BAD if step == 0 else GOOD)
        b.trace.facts.skipped_updates = 1
        forget(b.trace, weight, Role.UPDATE, 0)
        check_silent(NonfiniteGradient, b.trace)


class TestFires:
    def test_at_the_operation(self):
        b, _, _ = network(lambda step: BAD if step == 3 else GOOD)
        finding = check_fires(
            NonfiniteGradient,
            b.trace,
            at=singular(b, [3]),
            message="backward through sqrt makes NaN or infinity of a finite gradient at 1 of 7 sampled steps "
            "from step 3 on; the loss is finite",
        )
        assert (finding.measured, finding.steps) == (1.0, (3, 3))

    def test_at_the_last_layer_where_no_operation_was_seen(self):
        b, layer, _ = network(lambda step: BAD if step >= 8 else GOOD)
        b.record(layer, Role.OUTPUT_GRADIENT, BAD, steps=[8])
        check_fires(
            NonfiniteGradient,
            b.trace,
            at=layer,
            message="gradients of 1 parameters are not finite down to fc (linear) at 2 of 2 sampled steps "
            "from step 8 on; the loss is finite",
        )

    def test_at_a_parameter_at_least(self):
        b, _, weight = network(BAD)
        check_fires(NonfiniteGradient, b.trace, at=weight)

    @pytest.mark.parametrize("how", ["by AMP", "by the program"])
    def test_updates_that_were_skipped(self, how):
        b, _, weight = network()
        site = singular(b, [2, 3])
        backward = b.site(Kind.BACKWARD, "backward")
        for step in (2, 3):
            if how == "by AMP":
                forget(b.trace, weight, Role.GRADIENT, step)
            else:  # the second backward call of the step was the one whose gradient was used
                b.trace.add_vector(step, backward.index, "objectives", [1.0, 1.0])
        check_fires(NonfiniteGradient, b.trace, at=site)


def test_needs_gradients():
    b = TraceBuilder()
    b.layer("fc", weight=normal(0.1, 4, 4))
    check_lacks(NonfiniteGradient, b.trace, "gradients of parameters")
