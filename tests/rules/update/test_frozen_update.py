import numpy as np

from unstuck.rules.update.frozen_update import MIN_GRADIENT, FrozenUpdate
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

NOTHING = np.zeros((3, 5))
SOME = normal(0.01, 3, 5)


def network(update=NOTHING, *, gradient=1.0, rate=0.1, steps=range(10)):
    """Two layers that are updated, and one whose weight gets this update; gradients are relative to the others'."""
    b = TraceBuilder(steps)
    weights = [layer(b, path, SOME) for path in ("a", "b")]
    frozen = layer(b, "frozen", update, gradient)
    optimizer = b.site(Kind.OPTIMIZER, "SGD", parameters=tuple(site.index for site in [*weights, frozen]))
    for step in b.steps:
        b.scalar(optimizer, "lr", rate(step) if callable(rate) else rate, [step])
    return b, frozen


def layer(b, path, update, gradient=1.0, slot="weight", owner=None):
    weight = b.parameter(f"{path}.{slot}", owner or b.layer(path), slot, normal(0.1, 3, 5))
    b.record(weight, Role.GRADIENT, normal(1.0, 3, 5) * gradient)
    b.record(weight, Role.UPDATE, update)
    return weight


class TestSilent:
    def test_updates(self):
        check_silent(FrozenUpdate, network(SOME)[0].trace)

    def test_one_element_that_moves_once(self):
        one = NOTHING.copy()
        one[1, 2] = 1e-9
        check_silent(FrozenUpdate, network(lambda step: one if step == 7 else NOTHING)[0].trace)

    def test_a_warm_up_from_zero(self):
        check_silent(FrozenUpdate, network(lambda step: SOME * (step > 0))[0].trace)

    def test_the_first_update_of_a_warm_up_from_zero_tells_nothing(self):
        check_silent(FrozenUpdate, network(steps=range(1))[0].trace)

    def test_no_gradient(self):
        check_silent(FrozenUpdate, network(gradient=0.0)[0].trace)

    def test_a_gradient_that_is_rounding_noise(self):
        check_silent(FrozenUpdate, network(gradient=0.99 * MIN_GRADIENT)[0].trace)

    def test_in_no_optimizer(self):
        b, _ = network()
        b.trace.sites[-1].parameters = b.trace.sites[-1].parameters[:-1]
        check_silent(FrozenUpdate, b.trace)

    def test_too_few_updates(self):
        b, _ = network(SOME)
        other = layer(b, "late", dict.fromkeys(range(3), NOTHING))
        b.trace.sites[[s.kind for s in b.trace.sites].index(Kind.OPTIMIZER)].parameters += (other.index,)
        check_silent(FrozenUpdate, b.trace)


class TestFires:
    def test_a_learning_rate_of_zero(self):
        b, frozen = network(rate=0.0)
        check_fires(
            FrozenUpdate,
            b.trace,
            at=frozen,
            message="frozen.weight: none of 10 sampled updates by SGD changed a bit, with a gradient of 1 "
            "(rms, median); the learning rate of its group is 0",
        )

    def test_an_update_that_is_lost(self):
        b, frozen = network()
        finding = check_fires(FrozenUpdate, b.trace, at=frozen)
        assert "learning rate" not in finding.message
        assert [e.name for e in finding.evidence] == ["sampled updates", "rms of the gradient", "learning rate"]

    def test_a_small_gradient(self):
        b, frozen = network(gradient=1.01 * MIN_GRADIENT)
        check_fires(FrozenUpdate, b.trace, at=frozen)

    def test_weight_and_bias_are_one_finding(self):
        b, frozen = network()
        bias = layer(b, "frozen", NOTHING, slot="bias", owner=b.trace.sites[frozen.owner])
        optimizer = next(site for site in b.trace.sites if site.kind is Kind.OPTIMIZER)
        optimizer.parameters += (bias.index,)
        assert check_fires(FrozenUpdate, b.trace, at=frozen).message.startswith("frozen.weight and frozen.bias: none")


def test_needs_an_optimizer():
    b, _ = network()
    b.trace.sites[-1].parameters = ()
    check_lacks(FrozenUpdate, b.trace, "the step of an optimizer of torch")
