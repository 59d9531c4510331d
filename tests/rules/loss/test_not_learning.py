import math

import numpy as np
import pytest

from unstuck.rules.loss.not_learning import MAX_SIGMAS, MIN_GAIN, NotLearning
from unstuck.rules.objective import prior_entropy
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

N = 300
LN4 = math.log(4)


def run(late=LN4, *, early=1.45, noise=0.02, baseline=LN4, op="cross_entropy", steps=N, elements=64):
    """A run whose loss is `early` for a quarter and `late` afterwards, beside a constant baseline."""
    b = TraceBuilder(range(0, steps, 10))
    loss = b.site(Kind.LOSS, op)
    values = np.where(np.arange(steps) < steps / 4, early, late) + noise * np.random.default_rng(0).standard_normal(
        steps
    )
    b.trace.objective.update(enumerate(values.tolist()))
    b.trace.loss_calls += [LossCall(step, loss.index, float(values[step]), baseline) for step in b.steps]
    b.scalar(loss, "target_elements", elements, b.steps)
    return b, loss


def counts(b, loss, labels):
    for step in b.steps:
        b.trace.add_vector(step, loss.index, "label_counts", labels)


class TestSilent:
    def test_a_loss_below_its_baseline(self):
        check_silent(NotLearning, run(1.2)[0].trace)

    def test_a_loss_that_still_falls_from_above(self):
        b, _ = run()
        falling = np.linspace(9.0, 2.0, N)
        b.trace.objective.update(enumerate(falling.tolist()))
        check_silent(NotLearning, b.trace)

    def test_what_was_learned_and_lost_again(self):
        check_silent(NotLearning, run(1.6, early=1.0)[0].trace)

    def test_one_loss_of_two_is_learned(self):
        b, _ = run()
        other = b.site(Kind.LOSS, "mse_loss")
        b.trace.loss_calls += [LossCall(step, other.index, 0.1 + 0.001 * (step % 3), 1.0) for step in b.steps]
        check_silent(NotLearning, b.trace)

    def test_a_learning_rate_that_rises(self):
        b, _ = run()
        optimizer = b.site(Kind.OPTIMIZER, "Adam")
        for step in b.steps:
            b.scalar(optimizer, "lr", 1e-5 * step, [step])
        check_silent(NotLearning, b.trace)

    def test_several_objectives(self):
        b, _ = run()
        for _ in range(2):
            b.site(Kind.BACKWARD, "backward")
        check_silent(NotLearning, b.trace)

    def test_targets_that_move(self):
        b, loss = run(op="mse_loss", baseline=0.5)
        for step in b.steps:
            b.scalar(loss, "target_mean", 0.1 * step, [step])
            b.scalar(loss, "target_std", 1.0, [step])
        check_silent(NotLearning, b.trace)


class TestFires:
    def test_a_loss_at_its_baseline(self):
        b, loss = run()
        finding = check_fires(NotLearning, b.trace, at=loss)
        assert finding.message.startswith("cross_entropy is 1.38")
        assert finding.message.endswith(
            "on average (15 sampled steps from 150 to 290); without looking at the inputs it would be 1.386"
        )
        assert finding.steps == (150, 290)

    def test_above_it(self):
        b, loss = run(1.6)
        check_fires(NotLearning, b.trace, at=loss)

    def test_the_frequencies_of_the_classes_alone(self):
        shares = np.array([0.7, 0.1, 0.1, 0.1])
        entropy = -(shares * np.log(shares)).sum()
        b, loss = run(entropy)
        check_silent(NotLearning, b.trace)
        counts(b, loss, 100 * shares)
        corrected = entropy + 3 / (2 * 100 * len(b.steps))  # Miller's, for four classes
        assert check_fires(NotLearning, b.trace, at=loss).message.endswith(f"it would be {corrected:.4g}")
        b.scalar(loss, "weighted", 1.0, b.steps)  # the frequencies say nothing of a loss with class weights
        check_silent(NotLearning, b.trace)

    def test_few_labels_make_the_frequencies_look_more_telling_than_they_are(self):
        b, loss = run()
        drawn = np.random.default_rng(0).multinomial(64, np.full(240, 1 / 240), size=len(b.steps))  # all as frequent
        for step, labels in zip(b.steps, drawn, strict=True):
            b.trace.add_vector(step, loss.index, "label_counts", labels)
        plain = drawn.sum(axis=0) / drawn.sum()
        assert -(plain[plain > 0] * np.log(plain[plain > 0])).sum() < math.log(240) - 0.05
        assert prior_entropy(b.trace, loss) == pytest.approx((math.log(240), math.log(240)), abs=0.02)

    @pytest.mark.parametrize("share", [0.5, 0.2])
    def test_the_frequency_of_a_yes_alone(self, share):
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        b, loss = run(entropy, baseline=math.log(2), op="binary_cross_entropy_with_logits")
        b.scalar(loss, "target_mean", share, b.steps)
        b.scalar(loss, "target_std", 0.5, b.steps)
        check_fires(NotLearning, b.trace, at=loss)

    def test_the_mean_of_the_targets_alone(self):
        """Of eight targets, their own mean explains an eighth of the variance."""
        b, loss = run(1.0, baseline=7 / 8, op="mse_loss", elements=8)
        check_fires(NotLearning, b.trace, at=loss)
        b, _ = run(0.93, baseline=7 / 8, op="mse_loss", elements=8)
        check_silent(NotLearning, b.trace)


class TestThresholds:
    @pytest.mark.parametrize("side", [0.98, 1.02])
    @pytest.mark.parametrize(("noise", "sigmas", "share"), [(0.03, MAX_SIGMAS, 0), (0.05, 0, MIN_GAIN), (0.1, 1.5, 0)])
    def test_sampled_losses(self, side, noise, sigmas, share):
        """The losses of the second half's 15 sampled steps alternate; the objective, which has other terms, is flat."""
        signs = np.where(np.arange(N) // 10 % 2, noise, -noise)
        wobble = signs[150::10]
        gain = side * (sigmas * wobble.std(ddof=1) / len(wobble) ** 0.5 + share * LN4)
        b, loss = run(LN4 - gain + signs - wobble.mean(), noise=0.0)
        b.trace.objective.update(dict.fromkeys(range(N), 2.0))
        check_fires(NotLearning, b.trace, at=loss) if side < 1 else check_silent(NotLearning, b.trace)

    @pytest.mark.parametrize("side", [0.98, 1.02])
    def test_all_losses_of_a_tenth_of_the_run(self, side):
        """Odd steps, of which none is sampled, show what the even ones do not."""
        wobble = np.where(np.arange(N) % 2, -0.1, 0.1)
        gain = side * MAX_SIGMAS * wobble[:30].std(ddof=1) / 30**0.5
        b, loss = run(LN4 - gain + wobble, noise=0.0)
        check_fires(NotLearning, b.trace, at=loss) if side < 1 else check_silent(NotLearning, b.trace)


class TestNeeds:
    def test_two_hundred_steps(self):
        check_lacks(NotLearning, run(steps=199)[0].trace, "200 steps")

    def test_a_baseline(self):
        check_lacks(
            NotLearning,
            TraceBuilder(range(0, 300, 10)).trace,
            "a call of a loss in torch.nn.functional with a known baseline",
        )
