import math

import numpy as np
import pytest

from unstuck.rules.loss.hockey_stick import EARLY, MIN_EXCESS, MIN_SHARE, MIN_SHRINK, MIN_SPAN, MIN_STEPS, HockeyStick
from unstuck.trace import Kind, LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = [*range(10), *range(20, 400, 20)]
UNIFORM = math.log(27)
NEEDED = f"a classification loss and its logits at {MIN_STEPS} sampled steps of the first {MIN_SPAN} or more"


def course(losses, stds, *, op="cross_entropy", steps=STEPS, baseline=UNIFORM):
    """A classification whose loss and logits' spread are functions of the step."""
    b = TraceBuilder(steps)
    site = b.site(Kind.LOSS, op)
    for step in steps:
        b.trace.loss_calls.append(LossCall(step, site.index, losses(step), baseline))
    b.record(site, Role.INPUT, lambda step: normal(stds(step), 16, 27))
    return b, site


def falling(start, end, tau=15.0):
    return lambda step: end + (start - end) * math.exp(-step / tau)


class TestSilent:
    def test_a_steep_start_with_steady_logits(self):
        check_silent(HockeyStick, course(falling(5.0, 2.5), lambda _: 2.0)[0].trace)

    def test_logits_that_gain_spread(self):
        check_silent(HockeyStick, course(falling(5.0, 2.5), falling(0.5, 3.0))[0].trace)

    def test_a_start_at_the_baseline(self):
        check_silent(HockeyStick, course(falling(UNIFORM, 2.5), falling(0.3, 0.1))[0].trace)

    def test_a_dip_before_the_fall(self):
        stds = lambda step: 1.0 if step < 2 else 0.3 if step < 60 else 3.0  # noqa: E731
        losses = lambda step: 4.0 if step < 2 else 3.3 if step < 60 else 1.0  # noqa: E731
        check_silent(HockeyStick, course(losses, stds)[0].trace)

    def test_a_rising_loss(self):
        check_silent(HockeyStick, course(falling(5.0, 7.0), falling(2.0, 0.2))[0].trace)

    def test_loaded_weights(self):
        b, _ = course(falling(5.0, 3.3), falling(2.0, 0.4))
        b.trace.facts.weights_loaded = True
        check_silent(HockeyStick, b.trace)

    def test_small_logits_and_single_examples(self):
        losses = lambda step: 0.6 + 0.4 * ((step * 7919) % 11) / 11  # noqa: E731
        check_silent(HockeyStick, course(losses, falling(0.14, 0.02), baseline=0.5)[0].trace)
        check_silent(HockeyStick, course(losses, falling(0.8, 0.2), baseline=0.5)[0].trace)

    def test_logits_that_shrink_after_the_window(self):
        steps = [*range(10), 100, 300, 600, 900, EARLY, 2000, 3000]
        stds = lambda step: 2.0 if step < EARLY else 0.5  # noqa: E731
        check_silent(HockeyStick, course(falling(5.0, 2.5), stds, steps=steps)[0].trace)


class TestFires:
    def test_logits_that_shrink(self):
        b, site = course(falling(5.0, 3.3), falling(2.0, 0.4))
        finding = check_fires(HockeyStick, b.trace, at=site)
        assert finding.message.startswith(
            "100% of the fall in loss of the first 381 steps came while the logits shrank"
        )
        assert finding.measured == pytest.approx(100, abs=1)
        assert finding.steps[0] == 0
        assert finding.evidence[0].name == "fall of the logits' standard deviation"
        assert finding.evidence[0].value == pytest.approx(5.0, rel=0.02)

    def test_binary(self):
        b, site = course(falling(1.0, 0.68), falling(1.5, 0.5), op="binary_cross_entropy_with_logits", baseline=0.693)
        check_fires(HockeyStick, b.trace, at=site)

    def test_a_loss_written_by_hand(self):
        b = TraceBuilder(STEPS)
        layer = b.layer("head", weight=normal(0.1, 27, 20), output=lambda step: normal(falling(2.0, 0.4)(step), 16, 27))
        site = b.site(Kind.LOSS, "objective", far=b.site(Kind.SOFTMAX, "log_softmax", after=layer))
        b.trace.loss_calls += [LossCall(step, site.index, falling(5.0, 3.3)(step), UNIFORM) for step in STEPS]
        check_fires(HockeyStick, b.trace, at=site)


class TestThresholds:
    @pytest.mark.parametrize("side", [0.98, 1.02])
    def test_shrinking(self, side):
        b, site = course(falling(5.0, 3.3), falling(2.0, 2.0 / (MIN_SHRINK * side)))
        check_fires(HockeyStick, b.trace, at=site) if side > 1 else check_silent(HockeyStick, b.trace)

    @pytest.mark.parametrize("side", [-0.01, 0.01])
    def test_share_of_the_fall(self, side):
        """The logits are smallest at step 40; what the loss does after it is the rest of the fall."""
        then = 5.0 - (MIN_SHARE + side) * 2.0
        losses = lambda step: 5.0 if step == 0 else then if step < 150 else 3.0  # noqa: E731
        b, site = course(losses, lambda step: 2.0 if step == 0 else 0.5 if step < 100 else 1.0)
        check_fires(HockeyStick, b.trace, at=site) if side > 0 else check_silent(HockeyStick, b.trace)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_excess_at_the_start(self, side):
        b, site = course(falling(UNIFORM + side * MIN_EXCESS, 3.2), falling(2.0, 0.4))
        check_fires(HockeyStick, b.trace, at=site) if side > 1 else check_silent(HockeyStick, b.trace)


class TestLacking:
    @pytest.mark.parametrize("steps", [range(MIN_SPAN - 1), [*range(MIN_STEPS - 2), MIN_SPAN]])
    def test_too_few_steps(self, steps):
        b, _ = course(falling(5.0, 3.3, tau=1.0), falling(2.0, 0.4, tau=1.0), steps=steps)
        check_lacks(HockeyStick, b.trace, NEEDED)

    @pytest.mark.parametrize("steps", [range(MIN_SPAN), [*range(MIN_STEPS - 1), MIN_SPAN]])
    def test_enough_steps(self, steps):
        b, site = course(falling(5.0, 3.3, tau=1.0), falling(2.0, 0.4, tau=1.0), steps=steps)
        check_fires(HockeyStick, b.trace, at=site)

    def test_regression(self):
        b, _ = course(falling(5.0, 3.3), falling(2.0, 0.4), op="mse_loss")
        check_lacks(HockeyStick, b.trace, NEEDED)


def test_values_that_are_not_finite_are_left_out():
    b, site = course(lambda step: np.nan if step == 5 else falling(5.0, 3.3)(step), falling(2.0, 0.4))
    check_fires(HockeyStick, b.trace, at=site)
