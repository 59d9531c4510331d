import pytest

from unstuck.rules.update.undersized_updates import MAX_FALL, MIN_RATIO, UndersizedUpdates
from unstuck.rules.updates import FIRST_STEP, MIN_STEPS
from unstuck.trace import Kind, LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = range(41)


def network(*ratios, steps=STEPS, rates=None, loss=lambda _: 1.0):
    """Layers with an update of `ratio` (one, or one per step) times their weights, and an optimizer with `rates`."""
    b, weights = TraceBuilder(steps), []
    for number, ratio in enumerate(ratios):
        layer = b.layer(f"fc{number}", fan_in=16)
        value = normal(0.5, 10, 16)
        weight = b.parameter(f"fc{number}.weight", layer, "weight", value)
        b.record(weight, Role.UPDATE, lambda step, v=value, r=ratio: v * (r(step) if callable(r) else r))
        weights.append(weight)
    if rates is not None:
        site = b.site(Kind.OPTIMIZER, "Adam", parameters=tuple(w.index for w in weights))
        for step in steps:
            b.trace.add_scalar(step, site.index, "lr", rates(step))
    b.trace.objective = {step: loss(step) for step in steps}
    return b, weights


class TestSilent:
    def test_the_guide(self):
        check_silent(UndersizedUpdates, network(1e-3, 1e-3)[0].trace)

    def test_a_part_that_learns(self):
        check_silent(UndersizedUpdates, network(1e-7, 1e-3)[0].trace)

    def test_frozen_weights(self):
        check_silent(UndersizedUpdates, network(0.0, 0.0)[0].trace)

    def test_a_loss_that_falls(self):
        check_silent(UndersizedUpdates, network(1e-7, loss=lambda step: 1.0 - step / 50)[0].trace)

    def test_loaded_weights(self):
        b, _ = network(1e-7)
        b.trace.facts.weights_loaded = True
        check_silent(UndersizedUpdates, b.trace)

    def test_a_start_far_below_the_baseline(self):
        b, _ = network(1e-7)
        b.trace.loss_calls.append(LossCall(0, b.site(Kind.LOSS, "cross_entropy").index, 0.1, 2.3))
        check_silent(UndersizedUpdates, b.trace)

    def test_the_low_end_of_a_decay(self):
        ratio = lambda step: 1e-3 if step < 28 else 1e-7  # noqa: E731
        check_silent(UndersizedUpdates, network(ratio, rates=ratio)[0].trace)

    def test_a_warm_up_that_is_not_over(self):
        b, _ = network(lambda step: 1e-9 * (step + 1), rates=lambda step: 1e-6 * (step + 1))
        check_silent(UndersizedUpdates, b.trace)


class TestFires:
    @pytest.mark.parametrize("rates", [None, lambda _: 1e-7])
    def test_nothing_moves(self, rates):
        b, weights = network(2e-6, 1e-6, 0.0, rates=rates)
        finding = check_fires(
            UndersizedUpdates,
            b.trace,
            at=weights[0],
            message="an update is 2e-06 of the values of a weight matrix at the most (median of steps 20 to 40, "
            "2 matrices); the guide is 0.001, and the loss went from 1 to 1",
        )
        assert finding.threshold == MIN_RATIO


def test_threshold():
    check_silent(UndersizedUpdates, network(MIN_RATIO * 1.01)[0].trace)
    b, weights = network(MIN_RATIO * 0.99)
    check_fires(UndersizedUpdates, b.trace, at=weights[0])


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_threshold_of_the_fall(side):
    b, weights = network(1e-7, loss=lambda step: 1.0 if step < STEPS[-1] // 2 else 1.0 - side * MAX_FALL)
    check_fires(UndersizedUpdates, b.trace, at=weights[0]) if side < 1 else check_silent(UndersizedUpdates, b.trace)


def test_too_short():
    what = "updates of a weight matrix at 5 sampled steps from step 20 on"
    check_lacks(UndersizedUpdates, network(1e-7, steps=range(FIRST_STEP + MIN_STEPS - 1))[0].trace, what)
