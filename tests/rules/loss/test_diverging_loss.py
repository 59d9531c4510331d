import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.loss.diverging_loss import MAX_RISE, MEDIAN_ERROR, MIN_REGAIN, MIN_SIGMAS, OF_FIRST, DivergingLoss
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

N = 300
FALL = np.linspace(2.0, 1.0, N // 2)


def run(curve, *, noise=0.05, known=None, seed=0):
    """A run with this objective times (1 + noise); a known loss follows it, or the curve `known`."""
    b = TraceBuilder(range(0, N, 10))
    loss = b.site(Kind.LOSS, "mse_loss")
    draw = np.random.default_rng(seed)
    values = np.asarray(curve) * (1 + noise * draw.standard_normal(N))
    b.trace.objective.update(enumerate(values.tolist()))
    b.trace.loss_calls += [
        LossCall(s, loss.index, float((values if known is None else known)[s]), 1.0) for s in b.steps
    ]
    return b, loss


def rise(to, n=N - N // 2):
    return np.concatenate([FALL, np.linspace(1.0, to, n)])


class TestSilent:
    def test_a_falling_loss(self):
        check_silent(DivergingLoss, run(np.linspace(2.0, 0.1, N))[0].trace)

    @pytest.mark.parametrize("seed", range(5))
    def test_noisy_and_flat(self, seed):
        check_silent(DivergingLoss, run(np.full(N, 1.0), noise=0.3, seed=seed)[0].trace)

    def test_a_bump(self):
        curve = np.concatenate([FALL, np.linspace(1.0, 6.0, N // 4), np.linspace(6.0, 1.6, N // 4)])
        check_silent(DivergingLoss, run(curve)[0].trace)

    def test_what_is_left_of_a_loss_may_triple(self):
        check_silent(DivergingLoss, run(np.concatenate([np.geomspace(2.0, 1e-3, N - 50), np.full(50, 3e-3)]))[0].trace)

    def test_targets_that_move(self):
        b, loss = run(rise(4.0))
        for step in b.steps:
            b.scalar(loss, "target_mean", 0.1 * step, [step])
            b.scalar(loss, "target_std", 1.0, [step])
        check_silent(DivergingLoss, b.trace)

    def test_a_penalty_that_is_raised(self):
        check_silent(DivergingLoss, run(rise(4.0), known=np.linspace(2.0, 1.0, N))[0].trace)

    @pytest.mark.parametrize("later", [OF_FIRST - 0.1, np.where(np.arange(N) % 7, 9.0, 1.0)], ids=["near", "by chance"])
    def test_a_first_loss_that_was_low(self, later):
        curve = later * np.ones(N)
        curve[0] = 1.0
        check_silent(DivergingLoss, run(curve, noise=0.0)[0].trace)

    def test_what_is_known_of_the_start_is_no_first_loss(self):
        b, _ = run(np.concatenate([[1.0, 1.0], np.full(N - 2, 4.0)]), noise=0.0)
        del b.trace.objective[0]
        check_silent(DivergingLoss, b.trace)

    def test_several_objectives(self):
        b, _ = run(rise(4.0))
        for _ in range(2):
            b.site(Kind.BACKWARD, "backward")
        check_silent(DivergingLoss, b.trace)

    def test_below_zero_and_noisy(self):
        draw = np.random.default_rng(0).standard_normal(N)
        check_silent(DivergingLoss, run(np.linspace(2.0, -1.0, N) + draw)[0].trace)


class TestFires:
    def test_a_rising_loss(self):
        b, loss = run(rise(4.0), noise=0.0)
        finding = check_fires(
            DivergingLoss,
            b.trace,
            at=loss,
            severity=Severity.WARNING,
            message="the loss ends at 3.71 (median of the last 30 known), after 1.1 at its lowest and 1.9 at first, "
            "and is still up",
        )
        assert (finding.measured, finding.threshold) == (pytest.approx(3.38, abs=0.01), 1.5)
        assert finding.steps == (0, 299)

    def test_from_the_first_step_on(self):
        b, loss = run(np.geomspace(1.0, 1e6, N))
        check_fires(DivergingLoss, b.trace, at=loss)

    def test_above_where_a_negative_likelihood_began(self):
        curve = np.concatenate([np.linspace(2.0, -1.0, N // 2), np.linspace(-1.0, 8.0, N - N // 2)])
        b, loss = run(curve)
        check_fires(DivergingLoss, b.trace, at=loss)

    def test_far_above_the_very_first_loss_from_then_on(self):
        """No window is far above another one: the loss was that high before the first of them ended."""
        curve = np.full(N, OF_FIRST + 0.1)
        curve[0] = 1.0
        b, loss = run(curve, noise=0.0)
        finding = check_fires(DivergingLoss, b.trace, at=loss)
        assert (finding.measured, finding.threshold) == (pytest.approx(3.1), OF_FIRST)
        assert finding.unit == "times the first loss"

    def test_a_loss_written_by_hand(self):
        b, _ = run(rise(4.0))
        b.trace.loss_calls.clear()
        check_fires(DivergingLoss, b.trace, at=None)


class TestThresholds:
    @staticmethod
    def check(first, last, *, fires):
        """A loss of `first`, then 1, then `last`, each for some of the ten windows."""
        b, loss = run(np.repeat([first, 1.0, last], [N // 10, N // 2, 4 * N // 10]), noise=0.0)
        if fires:
            assert check_fires(DivergingLoss, b.trace, at=loss).measured == pytest.approx(last)
        else:
            check_silent(DivergingLoss, b.trace)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_rise(self, side):
        self.check(2.0, MAX_RISE * side, fires=side > 1)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_share_of_the_fall_that_is_regained(self, side):
        self.check(5.0, 1.0 + 5.0 * MIN_REGAIN * side, fires=side > 1)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_rise_over_the_noise(self, side):
        """Losses alternate about 2, 1 and 1.6 by their median absolute deviation."""
        deviation = 0.6 / (side * MIN_SIGMAS * MEDIAN_ERROR * (2 / (N // 10)) ** 0.5)
        wobble = deviation * np.where(np.arange(N) % 2, 1.0, -1.0)
        b, loss = run(np.repeat([2.0, 1.0, 1.6], [N // 10, N // 2, 4 * N // 10]) + wobble, noise=0.0)
        check_fires(DivergingLoss, b.trace, at=loss) if side > 1 else check_silent(DivergingLoss, b.trace)


def test_needs_losses():
    check_lacks(DivergingLoss, TraceBuilder(range(59)).trace, "the loss at 60 steps")
