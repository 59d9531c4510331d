import numpy as np
import pytest

from unstuck.rules.loss.loss_spikes import MIN_RISE, MIN_SIGMAS, NORMAL, LossSpikes
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

N = 400
AT = [77, 130, 201, 333]


def run(spikes=AT, *, height=5.0, base=None, noise=0.1, seed=0):
    """A run whose losses are normal about `base` (1) but for spikes `height` times as high."""
    b = TraceBuilder(range(0, N, 10))
    loss = b.site(Kind.LOSS, "mse_loss")
    draw = np.random.default_rng(seed)
    values = (np.ones(N) if base is None else base) * (1 + noise * np.clip(draw.standard_normal(N), -3, 3))
    values[list(spikes)] *= height
    b.trace.objective.update(enumerate(values.tolist()))
    b.trace.loss_calls += [LossCall(step, loss.index, float(values[step]), 1.0) for step in b.steps]
    return b, loss


class TestSilent:
    def test_noise(self):
        check_silent(LossSpikes, run([])[0].trace)

    def test_two_spikes(self):
        check_silent(LossSpikes, run(AT[:2])[0].trace)

    def test_neighbours_are_one_spike(self):
        check_silent(LossSpikes, run([100, 101, 102, 200, 201])[0].trace)

    def test_low_ones(self):
        check_silent(LossSpikes, run(height=1.4)[0].trace)

    @pytest.mark.parametrize("seed", range(5))
    def test_losses_of_single_records(self, seed):
        b, _ = run([])
        losses = np.random.default_rng(seed).lognormal(-3.0, 1.5, N)
        b.trace.objective.update(enumerate(losses.tolist()))
        check_silent(LossSpikes, b.trace)

    def test_another_level(self):
        check_silent(LossSpikes, run(range(200, 400))[0].trace)

    def test_spikes_below_where_the_loss_began(self):
        check_silent(LossSpikes, run(base=np.geomspace(1.0, 0.01, N))[0].trace)

    def test_the_last_batch_of_each_epoch(self):
        check_silent(LossSpikes, run(range(79, 400, 80))[0].trace)

    def test_two_kinds_of_batches(self):
        check_silent(LossSpikes, run(np.flatnonzero(np.random.default_rng(1).random(N) < 0.25))[0].trace)

    def test_below_zero(self):
        b, _ = run()
        b.trace.objective[5] = -1.0
        check_silent(LossSpikes, b.trace)

    def test_several_objectives(self):
        b, _ = run()
        for _ in range(2):
            b.site(Kind.BACKWARD, "backward")
        check_silent(LossSpikes, b.trace)


class TestFires:
    def test_four_spikes(self):
        b, loss = run(noise=0.05)
        finding = check_fires(LossSpikes, b.trace, at=loss)
        assert finding.message.startswith("the loss shoots up 4 times, each for a step or a few; the highest is ")
        assert (finding.measured, finding.threshold, finding.steps) == (4.0, 3.0, (77, 333))
        evidence = {e.name: e.value for e in finding.evidence}
        assert evidence == {"share of the steps": 1.0, "mean length of a spike": 1.0}

    def test_clipping_helps_where_a_spike_outlasts_its_batch(self):
        assert check_fires(LossSpikes, run(AT)[0].trace, at=run(AT)[1]).fixes == ()
        lasting, loss = run([step + later for step in AT for later in range(2)])
        assert check_fires(LossSpikes, lasting.trace, at=loss).fixes == ("clip-gradients",)
        lasting.site(Kind.CLIPPING, "clip_grad_norm_")
        assert check_fires(LossSpikes, lasting.trace, at=loss).fixes == ()

    def test_three_are_enough(self):
        b, loss = run(AT[:3])
        assert check_fires(LossSpikes, b.trace, at=loss).measured == 3.0

    def test_one_step_in_ten(self):
        b, loss = run(np.flatnonzero(np.random.default_rng(1).random(N) < 0.1), noise=0.05)
        check_fires(LossSpikes, b.trace, at=loss)


class TestThresholds:
    @staticmethod
    def check(height, deviation, *, fires):
        """Losses alternate about 1 by `deviation`, which is their median absolute one."""
        base = 1 + deviation * np.where(np.arange(N) % 2, 1.0, -1.0)
        base[AT] = 1.0
        b, loss = run(height=height, base=base, noise=0.0)
        if fires:
            assert check_fires(LossSpikes, b.trace, at=loss).measured == len(AT)
        else:
            check_silent(LossSpikes, b.trace)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_height_over_the_median(self, side):
        self.check(1 + side * MIN_RISE, 0.0, fires=side > 1)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_height_over_the_noise(self, side):
        self.check(1 + side * MIN_SIGMAS * NORMAL * 0.05, 0.05, fires=side > 1)


class TestNeeds:
    def test_enough_losses(self):
        check_lacks(LossSpikes, TraceBuilder(range(99)).trace, "the loss at each of 100 steps")

    def test_every_step(self):
        check_lacks(LossSpikes, TraceBuilder(range(0, 400, 2)).trace, "the loss at each of 100 steps")
