import numpy as np
import pytest

from unstuck.rules.data.unscaled_target import MAX_SCALE, UnscaledTarget
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal
from .given import give, target


def regression(std, mean=0.0, *, op="mse_loss", made=(1.0, 0.0), steps=range(10), kind=Kind.WEIGHT_LAYER, direct=True):
    """A regression whose predictions start with (std, mean) of `made`."""
    b = TraceBuilder(steps)
    head = b.site(kind, "linear", "head")
    loss = b.loss(op, **{"after" if direct else "far": head})
    target(b, loss, [normal(std, 64, mean=mean)] * len(b.steps))
    give(b, loss, lambda step: normal(made[0], 64, mean=made[1]), unit_dim=None)
    return b, loss


class TestSilent:
    def test_standardised(self):
        check_silent(UnscaledTarget, regression(1.0)[0].trace)

    @pytest.mark.parametrize(("std", "mean"), [(0.99 * MAX_SCALE, 0.0), (1.0, -0.99 * MAX_SCALE)])
    def test_below_the_threshold(self, std, mean):
        check_silent(UnscaledTarget, regression(std, mean, made=(0.0, 0.0))[0].trace)

    def test_predictions_that_start_at_the_targets_scale(self):
        check_silent(UnscaledTarget, regression(250.0, 900.0, made=(200.0, 880.0))[0].trace)

    def test_a_bias_that_starts_at_the_mean(self):
        check_silent(UnscaledTarget, regression(20.0, 900.0, made=(1.0, 890.0))[0].trace)

    def test_targets_that_grow_late(self):
        b, loss = regression(1.0, steps=range(20))
        target(b, loss, [normal(1.0 if step < 12 else 500.0, 64) for step in b.steps])
        check_silent(UnscaledTarget, b.trace)


class TestFires:
    @pytest.mark.parametrize(("std", "mean"), [(1.01 * MAX_SCALE, 0.0), (1.0, -1.01 * MAX_SCALE)])
    def test_above_the_threshold(self, std, mean):
        b, loss = regression(std, mean, made=(0.0, 0.0))
        assert check_fires(UnscaledTarget, b.trace, at=loss).measured == pytest.approx(1.01 * MAX_SCALE)

    @pytest.mark.parametrize("op", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
    def test_seconds(self, op):
        b, loss = regression(250.0, 900.0, op=op, made=(1.0, 2.0))
        check_fires(
            UnscaledTarget,
            b.trace,
            at=loss,
            message=f"the targets of {op} have mean 900 and standard deviation 250; the predictions start at mean "
            "2 and standard deviation 1",
        )


class TestNeeds:
    def test_a_regression(self):
        missing = "a call of a regression loss on the output of a weight layer"
        check_lacks(UnscaledTarget, TraceBuilder().trace, missing)
        check_lacks(UnscaledTarget, regression(500.0, op="poisson_nll_loss")[0].trace, missing)
        check_lacks(UnscaledTarget, regression(500.0, direct=False)[0].trace, missing)

    def test_an_output_behind_a_function_counts(self):
        b = TraceBuilder()
        relu = b.activation("relu", after=b.site(Kind.WEIGHT_LAYER, "linear", "head"))
        loss = b.loss("mse_loss", after=relu)
        target(b, loss, [np.full(64, 500.0)] * 10)
        give(b, loss, normal(1.0, 64), unit_dim=None)
        check_fires(UnscaledTarget, b.trace, at=loss)
