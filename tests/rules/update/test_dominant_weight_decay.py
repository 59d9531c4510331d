import numpy as np
import pytest

from unstuck.rules.update.dominant_weight_decay import MAX_DECAY, MAX_KEPT, DominantWeightDecay
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

STEPS = range(20)
DECAY, RATE = 0.3, 0.01


def network(times, *, kept=0.1, number=2, loss=1.0, decoupled=False, others=0, decay=DECAY):
    """Weights that shrink to `kept` of their size, with a decay part of `times` the gradient part of each update."""
    b, weights = TraceBuilder(STEPS), []
    optimizer = b.site(Kind.OPTIMIZER, "AdamW" if decoupled else "SGD")
    for n in range(number + others):
        left = kept if n < number else 1.0
        size = lambda step, left=left: left ** (step / STEPS[-1])  # noqa: E731
        layer = b.layer(f"fc{n}", fan_in=16)
        weight = b.parameter(f"fc{n}.weight", layer, "weight", lambda step, s=size: normal(s(step), 10, 16))
        if decoupled:  # the gradient part is orthogonal to the weights
            b.record(weight, Role.GRADIENT, normal(1.0, 10, 16))
            both = RATE * DECAY * np.sqrt(1 + times**-2.0)
            b.record(weight, Role.UPDATE, lambda step, s=size, both=both: normal(both * s(step), 10, 16))
        else:
            b.record(weight, Role.GRADIENT, lambda step, s=size: normal(DECAY * s(step) / times, 10, 16))
            b.record(weight, Role.UPDATE, normal(1e-3, 10, 16))
        weights.append(weight)
    optimizer.parameters = tuple(w.index for w in weights)
    for name, value in (("weight_decay", decay), ("lr", RATE), ("decoupled", float(decoupled))):
        if value is not None:
            b.scalar(optimizer, name, value, STEPS)
    b.trace.objective = {step: loss if step > STEPS[-1] // 2 else 1.0 for step in STEPS}
    return b, optimizer


class TestSilent:
    @pytest.mark.parametrize("decoupled", [False, True])
    def test_a_brake(self, decoupled):
        check_silent(DominantWeightDecay, network(0.5, decoupled=decoupled)[0].trace)

    def test_no_decay(self):
        check_silent(DominantWeightDecay, network(100, decay=0.0)[0].trace)

    def test_small_gradients_of_a_network_that_has_learned(self):
        check_silent(DominantWeightDecay, network(100, loss=0.1)[0].trace)

    def test_half_of_the_matrices(self):
        check_silent(DominantWeightDecay, network(100, number=1, others=1)[0].trace)


@pytest.mark.parametrize("decoupled", [False, True])
def test_fires(decoupled):
    b, optimizer = network(50, decoupled=decoupled)
    finding = check_fires(
        DominantWeightDecay,
        b.trace,
        at=optimizer,
        message="weight decay of 0.3 moves 2 of 2 weight matrices 50 times as far as their gradients do, "
        "and has left 10 % of their size",
    )
    assert finding.measured == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize("side", [0.99, 1.01])
def test_what_is_kept(side):
    b, optimizer = network(100, kept=MAX_KEPT * side)
    check_fires(DominantWeightDecay, b.trace, at=optimizer) if side < 1 else check_silent(DominantWeightDecay, b.trace)


def test_threshold():
    check_silent(DominantWeightDecay, network(MAX_DECAY * 0.99)[0].trace)
    b, optimizer = network(MAX_DECAY * 1.01)
    check_fires(DominantWeightDecay, b.trace, at=optimizer)


def test_needs_a_known_decay():
    check_lacks(DominantWeightDecay, network(50, decay=None)[0].trace, "an optimizer with a weight_decay setting")
