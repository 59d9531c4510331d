import numpy as np
import pytest

from unstuck.rules.update.rounded_away_updates import MAX_UNCHANGED, RoundedAwayUpdates
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal

SHAPE = (20, 10)


def update(unchanged):
    """An update that leaves this many of 200 elements as they were."""
    x = normal(1e-3, *SHAPE).ravel()
    x[:unchanged] = 0.0
    return x.reshape(SHAPE)


def network(change, *, dtype="bfloat16", gradient=None, optimizer="Adam", member=True, slot="weight", steps=range(10)):
    b = TraceBuilder(steps)
    layer = b.layer("fc", fan_in=10)
    weight = b.parameter("fc.weight", layer, slot, normal(0.3, *SHAPE))
    weight.dtype = dtype
    b.record(weight, Role.UPDATE, change)
    b.record(weight, Role.GRADIENT, normal(1.0, *SHAPE) if gradient is None else gradient)
    if optimizer:
        b.site(Kind.OPTIMIZER, optimizer, parameters=(weight.index,) if member else ())
    return b, weight


class TestSilent:
    def test_at_the_limit(self):
        check_silent(RoundedAwayUpdates, network(update(int(MAX_UNCHANGED * 2)))[0].trace)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_weights_in_more_bits(self, dtype):
        check_silent(RoundedAwayUpdates, network(update(150), dtype=dtype)[0].trace)

    def test_nothing_changes_at_all(self):
        check_silent(RoundedAwayUpdates, network(update(200))[0].trace)

    def test_elements_without_gradient(self):
        gradient = normal(1.0, *SHAPE).ravel()
        gradient[:140] = 0.0
        check_silent(RoundedAwayUpdates, network(update(150), gradient=gradient.reshape(SHAPE))[0].trace)

    def test_the_end_of_a_decay(self):
        check_silent(RoundedAwayUpdates, network(lambda step: update(180 if step > 5 else 20))[0].trace)

    @pytest.mark.parametrize("other", [{"optimizer": "AdamWKahan"}, {"member": False}, {"slot": "bias"}])
    def test_who_may_keep_what_is_lost(self, other):
        check_silent(RoundedAwayUpdates, network(update(150), **other)[0].trace)


class TestFires:
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_above_the_limit(self, dtype):
        b, weight = network(update(int(MAX_UNCHANGED * 2) + 1), dtype=dtype)
        assert check_fires(RoundedAwayUpdates, b.trace, at=weight).measured == MAX_UNCHANGED + 0.5

    def test_most_of_the_weights(self):
        b, weight = network(update(180))
        finding = check_fires(
            RoundedAwayUpdates,
            b.trace,
            at=weight,
            message="90 % of fc.weight stays as it is in an update (median of steps 0 to 9): it is kept in bfloat16, "
            "where changes below 0.0039 of a number are rounded away",
        )
        assert [e.name for e in finding.evidence] == ["update-to-data ratio", "precision of the type"]

    def test_in_a_loop_without_optimizer(self):
        b, weight = network(update(180), optimizer=None)
        check_fires(RoundedAwayUpdates, b.trace, at=weight)

    def test_counts_only_elements_with_a_gradient(self):
        gradient = normal(1.0, *SHAPE).ravel()
        gradient[:100] = 0.0
        b, weight = network(update(180), gradient=gradient.reshape(SHAPE))
        assert check_fires(RoundedAwayUpdates, b.trace, at=weight).measured == pytest.approx(80.0)

    def test_steps_without_any_update_do_not_count(self):
        b, weight = network(lambda step: np.zeros(SHAPE) if step < 3 else update(180))
        assert check_fires(RoundedAwayUpdates, b.trace, at=weight).steps == (3, 9)


def test_needs_updates():
    check_lacks(
        RoundedAwayUpdates, TraceBuilder().trace, "gradients of parameters; parameters before and after an update"
    )
