import pytest

from unstuck.rules.gradient.clipped_scaled_gradients import MIN_BOUND, MIN_SHRINKAGE, ClippedScaledGradients

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .clipping import clipped


class TestSilent:
    def test_unscaled_first(self):
        check_silent(ClippedScaledGradients, clipped(20.0)[0].trace)

    def test_a_bound_times_the_scale(self):
        check_silent(ClippedScaledGradients, clipped(5 * 1024.0, bound=1024.0, scale=1024.0)[0].trace)

    def test_a_bound_that_is_not_reached(self):
        check_silent(ClippedScaledGradients, clipped(20.0, bound=20.0, scale=1024.0)[0].trace)


def test_fires():
    b, site = clipped(2000.0, bound=2.0, scale=1024.0)
    finding = check_fires(
        ClippedScaledGradients,
        b.trace,
        at=site,
        message="gradients are clipped to a norm of 2 while multiplied by AMP's scale of 1024; without it the bound is "
        "0.002, and their norm 2",
    )
    assert finding.measured == pytest.approx(2 / 1024)


def test_threshold():
    check_silent(ClippedScaledGradients, clipped(1000.0, bound=MIN_BOUND * 1.01 * 64, scale=64.0)[0].trace)
    b, site = clipped(1000.0, bound=MIN_BOUND * 0.99 * 64, scale=64.0)
    check_fires(ClippedScaledGradients, b.trace, at=site)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold_of_the_shrinkage(side):
    b, site = clipped(2.0 * MIN_SHRINKAGE * side, bound=2.0, scale=1024.0)
    if side > 1:
        check_fires(ClippedScaledGradients, b.trace, at=site)
    else:
        check_silent(ClippedScaledGradients, b.trace)


def test_needs_clipping():
    check_lacks(ClippedScaledGradients, TraceBuilder().trace, "a call of torch.nn.utils.clip_grad_norm_")
