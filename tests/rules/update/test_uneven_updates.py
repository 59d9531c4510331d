import numpy as np
import pytest

from unstuck.rules.update.uneven_updates import MAX_SPREAD, UnevenUpdates
from unstuck.rules.updates import FIRST_STEP, MIN_STEPS
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = range(41)


def network(*ratios, steps=STEPS, kinds=None, gradient=None):
    """Layers with an update of `ratio` times their weights; `kinds` by number where they are no weight layers."""
    b, weights = TraceBuilder(steps), []
    for number, ratio in enumerate(ratios):
        layer = b.layer(f"fc{number}", fan_in=16, kind=(kinds or {}).get(number, Kind.WEIGHT_LAYER))
        value = normal(0.5, 10, 16)
        weight = b.parameter(f"fc{number}.weight", layer, "weight", value)
        b.record(weight, Role.UPDATE, lambda step, v=value, r=ratio: v * (r(step) if callable(r) else r))
        if gradient is not None:
            b.record(weight, Role.GRADIENT, gradient(number))
        weights.append(weight)
    return b, weights


class TestSilent:
    def test_within_a_factor_of_a_hundred(self):
        check_silent(UnevenUpdates, network(1e-5, 1e-4, 1e-3)[0].trace)

    def test_frozen(self):
        check_silent(UnevenUpdates, network(0.0, 1e-3, 1e-3, 1e-3)[0].trace)

    def test_first_steps(self):
        b, _ = network(lambda step: 1e-9 if step < FIRST_STEP else 1e-3, 1e-3, 1e-3)
        check_silent(UnevenUpdates, b.trace)

    def test_embeddings(self):
        check_silent(UnevenUpdates, network(1e-7, 1e-3, 1e-3, 1e-3, kinds={0: Kind.EMBEDDING})[0].trace)

    def test_experts_that_are_not_chosen(self):
        b, _ = network(1e-7, 1e-3, 1e-3, 1e-3, gradient=lambda n: normal(0.1, 10, 16) if n else np.zeros((10, 16)))
        check_silent(UnevenUpdates, b.trace)

    def test_networks_of_different_optimizers(self):
        b, weights = network(*[1e-6] * 3, *[1e-3] * 3)
        for group in (weights[:3], weights[3:]):
            b.site(Kind.OPTIMIZER, "SGD", parameters=tuple(w.index for w in group))
        check_silent(UnevenUpdates, b.trace)

    def test_loaded_weights(self):
        b, _ = network(1e-7, 1e-3, 1e-3)
        b.trace.facts.weights_loaded = True
        check_silent(UnevenUpdates, b.trace)


class TestFires:
    def test_at_the_slowest(self):
        b, weights = network(1e-3, 2e-6, 1e-2)
        finding = check_fires(
            UnevenUpdates,
            b.trace,
            at=weights[1],
            message="an update of fc1.weight is 2e-06 of its values and one of fc2.weight 0.01, 5,000 times as much; "
            "300 times is the limit",
        )
        assert finding.measured == pytest.approx(5000)

    def test_groups_of_one_optimizer(self):
        b, weights = network(1e-6, 1e-3, 1e-3)
        first = b.site(Kind.OPTIMIZER, "SGD", parameters=(weights[0].index,))
        second = b.site(Kind.OPTIMIZER, "SGD", parameters=tuple(w.index for w in weights[1:]))
        second.location = first.location
        check_fires(UnevenUpdates, b.trace, at=weights[0])


def test_threshold():
    check_silent(UnevenUpdates, network(1e-5, 1e-4, 1e-5 * MAX_SPREAD * 0.99)[0].trace)
    b, weights = network(1e-5, 1e-4, 1e-5 * MAX_SPREAD * 1.01)
    check_fires(UnevenUpdates, b.trace, at=weights[0])


def test_needs_three_matrices():
    what = "updates of 3 weight matrices at 5 sampled steps from step 20 on"
    check_lacks(UnevenUpdates, network(1e-6, 1e-3)[0].trace, what)
    check_lacks(UnevenUpdates, network(1e-6, 1e-3, 1e-3, steps=range(FIRST_STEP + MIN_STEPS - 1))[0].trace, what)
