import math

import numpy as np
import pytest

from unstuck.rules import objective
from unstuck.trace import Kind, LossCall

from .helpers import TraceBuilder


def run(calls, values, op="mse_loss", steps=range(4)):
    """A run with one loss site for each list of values in `calls`, and these objectives."""
    b = TraceBuilder(steps)
    for series in calls:
        site = b.site(Kind.LOSS, op)
        b.trace.loss_calls += [LossCall(step, site.index, v, None) for step, v in zip(b.steps, series, strict=True)]
    b.trace.objective = dict(zip(b.steps, values, strict=True))
    return b


class TestFactors:
    def test_the_objective_over_the_sum_of_the_known_losses(self):
        steps, factors = objective.factors(run([[1.0, 2.0, 3.0, 4.0], [1.0] * 4], [1.0, 1.5, 2.0, 2.5]).trace)
        assert steps.tolist() == [0, 1, 2, 3]
        assert factors.tolist() == [0.5] * 4

    def test_steps_without_a_finite_value_are_left_out(self):
        steps, _ = objective.factors(run([[1.0, math.nan, 0.0, 4.0]], [1.0, 1.0, 1.0, math.inf]).trace)
        assert steps.tolist() == [0]

    def test_losses_written_by_hand_are_not_known(self):
        assert objective.totals(run([[1.0] * 4], [1.0] * 4, op="objective").trace) == {}


@pytest.mark.parametrize(
    ("values", "steady"),
    [([], False), ([2.0] * 9 + [5.0], True), ([2.0] * 8 + [5.0] * 2, False), ([-1.0, -1.019, -0.981], True)],
)
def test_steady_within_two_percent_at_nine_steps_in_ten(values, steady):
    assert objective.is_steady(np.array(values)) is steady


def test_the_main_loss_is_called_at_most_steps_and_last():
    b = run([[1.0] * 4, [1.0] * 4], [1.0] * 4)
    b.trace.loss_calls.append(LossCall(0, b.site(Kind.LOSS, "kl_div").index, 1.0, None))
    assert objective.main_loss(b.trace).index == 1
    assert objective.main_loss(TraceBuilder().trace) is None


class TestSeveralObjectives:
    def optimizers(self, *steps):
        b = TraceBuilder(range(8))
        for own in steps:
            b.scalar(b.site(Kind.OPTIMIZER, "Adam"), "lr", 0.1, own)
        return b

    @pytest.mark.parametrize(
        ("steps", "several"),
        [([], False), ([range(8)], False), ([range(8), range(8)], False), ([range(0, 8, 2), range(1, 8, 2)], True)],
        ids=["by hand", "one", "together", "by turns"],
    )
    def test_optimizers(self, steps, several):
        assert objective.several_objectives(self.optimizers(*steps).trace) is several

    def test_two_places_of_backward(self):
        b = TraceBuilder()
        for _ in range(2):
            b.site(Kind.BACKWARD, "backward")
        assert objective.several_objectives(b.trace)


@pytest.mark.parametrize(
    ("mean", "std", "moves"),
    [
        (lambda _: 1.0, lambda _: 1.0, False),
        (lambda i: 0.1 * i, lambda _: 1.0, True),
        (lambda _: 0.0, lambda i: i, True),
    ],
    ids=["still", "drifting", "widening"],
)
def test_targets_that_move(mean, std, moves):
    b = TraceBuilder(range(12))
    loss = b.site(Kind.LOSS, "mse_loss")
    for i in b.steps:
        b.scalar(loss, "target_mean", mean(i), [i])
        b.scalar(loss, "target_std", std(i), [i])
    assert objective.targets_move(b.trace, loss) is moves


@pytest.mark.parametrize(
    ("names", "free"), [([], False), (["AdamW"], True), (["AdamW", "SGD"], False), (["RMSprop", "Adam"], True)]
)
def test_optimizers_that_do_not_depend_on_the_scale_of_the_loss(names, free):
    b = TraceBuilder()
    for name in names:
        b.site(Kind.OPTIMIZER, name)
    assert objective.is_scale_free(b.trace) is free
