import math

import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.update.oversized_updates import (
    BLOW_UP_RATIO,
    EARLY,
    EARLY_FACTOR,
    ERROR_RATIO,
    FIRST_STEP,
    MAX_RATIO,
    MIN_STEPS,
    OUTPUT_MAX_RATIO,
    OversizedUpdates,
)
from unstuck.trace import Kind, Role
from unstuck.trace.trace import SMALL_SCALE

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, forget, normal

STEPS = range(41)
LATE = range(EARLY + 1)


def network(ratio, *, scale=0.5, steps=STEPS, slot="weight", kind=Kind.WEIGHT_LAYER, shape=(10, 16), output=False):
    """A layer whose update is `ratio` (a number, or one per step) times its weights; followed by another or not."""
    b = TraceBuilder(steps)
    layer = b.layer("fc", kind=kind, fan_in=16)
    if not output:
        b.layer("head", fan_in=10, after=layer)
    value = normal(scale, *shape)
    site = b.parameter(f"fc.{slot}", layer, slot, value)
    b.record(site, Role.UPDATE, lambda step: value * (ratio(step) if callable(ratio) else ratio))
    return b, site


class TestSilent:
    def test_the_guide(self):
        check_silent(OversizedUpdates, network(1e-3)[0].trace)

    def test_hot_first_steps(self):
        check_silent(OversizedUpdates, network(lambda step: 0.5 if step < FIRST_STEP else 1e-3)[0].trace)

    def test_a_few_large_updates(self):
        check_silent(OversizedUpdates, network(lambda step: 0.5 if step % 3 == 0 else 1e-3)[0].trace)

    @pytest.mark.parametrize(
        "other", [{"slot": "bias"}, {"kind": Kind.EMBEDDING}, {"kind": Kind.NORM}, {"shape": (16,)}]
    )
    def test_biases_embeddings_norms_and_vectors(self, other):
        b, _ = network(1e-3)
        layer = b.layer("other", kind=other.get("kind", Kind.WEIGHT_LAYER), fan_in=16)
        value = normal(0.5, *other.get("shape", (10, 16)))
        site = b.parameter("other", layer, other.get("slot", "weight"), value)
        b.record(site, Role.UPDATE, value)
        check_silent(OversizedUpdates, b.trace)

    def test_weights_that_start_at_zero(self):
        b, site = network(0.0, scale=1e-9)
        forget(b.trace, site, Role.UPDATE)
        b.record(site, Role.UPDATE, normal(1e-3, 10, 16))
        check_silent(OversizedUpdates, b.trace)

    def test_nan_updates(self):
        b, site = network(1e-3)
        for step in range(30, 41):
            forget(b.trace, site, Role.UPDATE, step)
        b.record(site, Role.UPDATE, np.full((10, 16), np.nan), steps=range(30, 41))
        check_silent(OversizedUpdates, b.trace)

    def test_an_output_layer_that_learns_fast(self):
        check_silent(OversizedUpdates, network(OUTPUT_MAX_RATIO * 0.99, output=True, steps=LATE)[0].trace)


class TestFires:
    def test_an_output_layer_beyond_its_limit(self):
        b, site = network(OUTPUT_MAX_RATIO * 1.01, output=True, steps=LATE)
        assert check_fires(OversizedUpdates, b.trace, at=site).threshold == OUTPUT_MAX_RATIO

    def test_large_learning_rate(self):
        b, site = network(0.085, steps=LATE)
        finding = check_fires(
            OversizedUpdates,
            b.trace,
            at=site,
            message="an update of fc.weight is 0.085 of its values (median of steps 20 to 150); "
            "the guide is 0.001 and 0.035 the limit",
            severity=Severity.WARNING,
        )
        assert finding.measured == pytest.approx(0.085)
        assert (finding.threshold, finding.unit, finding.steps) == (MAX_RATIO, "1", (20, 150))
        assert finding.evidence[1].value == 131

    def test_error_when_the_weights_are_replaced(self):
        b, site = network(ERROR_RATIO * 0.99)
        check_fires(OversizedUpdates, b.trace, at=site, severity=Severity.WARNING)
        b, site = network(ERROR_RATIO * 1.01)
        check_fires(OversizedUpdates, b.trace, at=site, severity=Severity.ERROR)

    def test_small_weights_are_measured_against_the_floor(self):
        floor = SMALL_SCALE / math.sqrt(16)
        b, site = network(2.0, scale=floor / 10)
        assert check_fires(OversizedUpdates, b.trace, at=site).measured == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("steps", "limit"), [(range(EARLY), EARLY_FACTOR * MAX_RATIO), (LATE, MAX_RATIO)], ids=["early", "late"]
)
def test_threshold(steps, limit):
    check_silent(OversizedUpdates, network(limit * 0.99, steps=steps)[0].trace)
    b, site = network(limit * 1.01, steps=steps)
    assert check_fires(OversizedUpdates, b.trace, at=site).threshold == pytest.approx(limit)


class TestLacking:
    def test_too_short(self):
        what = "updates of a weight matrix at 5 sampled steps from step 20 on"
        check_lacks(OversizedUpdates, network(0.5, steps=range(FIRST_STEP + MIN_STEPS - 1))[0].trace, what)
        b, site = network(0.5, steps=range(FIRST_STEP + MIN_STEPS))
        check_fires(OversizedUpdates, b.trace, at=site)

    def test_no_updates(self):
        b = TraceBuilder()
        b.layer("fc", weight=normal(1, 3, 3))
        check_lacks(OversizedUpdates, b.trace, "parameters before and after an update")


class TestBlowUp:
    """An update larger than the weights in the first steps, and a loss that goes with it."""

    def network(self, loss, ratio=5.0, steps=STEPS):
        b, site = network(lambda step: ratio if step == 0 else 1e-3, steps=steps)
        b.trace.objective = {step: loss(step) for step in steps}
        return b, site

    def test_a_jump_that_is_made_good(self):
        check_silent(OversizedUpdates, self.network(lambda step: 9.9 if 0 < step < 10 else 1.0)[0].trace)
        check_silent(
            OversizedUpdates, self.network(lambda step: 1.0 if step == 0 else 90.0 if step < 10 else 0.4)[0].trace
        )
        check_silent(
            OversizedUpdates, self.network(lambda step: 1.0 if step == 0 else 30.0 if step < 30 else 0.1)[0].trace
        )

    def test_a_loss_that_rises_with_small_updates(self):
        check_silent(OversizedUpdates, self.network(lambda step: 1.0 + step, ratio=0.9)[0].trace)

    @pytest.mark.parametrize("end", [30.0, math.nan, math.inf])
    def test_a_loss_that_stays_up(self, end):
        b, site = self.network(lambda step: end if step else 1.0)
        finding = check_fires(OversizedUpdates, b.trace, at=site, severity=Severity.ERROR)
        assert (finding.measured, finding.steps) == (pytest.approx(5.0), (0, 19))

    def test_a_jump_too_far_to_come_back_from_well(self):
        b, site = self.network(lambda step: 10.1 if 0 < step < 10 else 1.0 if step == 0 else 0.7)
        message = (
            "the update of fc.weight at step 0 is 5 of its values, and the loss goes from 1 to 10.1 within 20 steps"
        )
        check_fires(OversizedUpdates, b.trace, at=site, severity=Severity.ERROR, message=message)

    @pytest.mark.parametrize("side", [0.99, 1.01])
    def test_threshold(self, side):
        b, site = self.network(lambda step: 30.0 if step else 1.0, ratio=BLOW_UP_RATIO * side)
        check_fires(OversizedUpdates, b.trace, at=site) if side > 1 else check_silent(OversizedUpdates, b.trace)

    def test_needs_no_later_steps(self):
        b, site = self.network(lambda step: math.nan if step > 2 else 1.0, steps=range(12))
        check_fires(OversizedUpdates, b.trace, at=site)
