import math

import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.loss.nonfinite_loss import MAX_NONFINITE_STEPS, NonfiniteLoss
from unstuck.trace import LossCall, Role, Trace

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent

FINE = np.ones((4, 3))
ONE_NAN = np.array([[np.nan, 1.0, 1.0]] + [[1.0] * 3] * 3)
MASKED = np.array([[-np.inf, 1.0, 1.0]] * 4)


def from_step(first, value):
    return lambda step: value if step >= first else FINE


def run(first=3, value=math.nan, steps=range(6)):
    b = TraceBuilder(steps)
    for step in b.steps:
        if step >= first:
            b.trace.objective[step] = value
    return b


class TestSilent:
    def test_finite_losses_however_large(self):
        check_silent(NonfiniteLoss, run(value=1e300).trace)

    def test_infinite_scores_under_a_mask_with_a_finite_loss(self):
        b = TraceBuilder()
        b.layer("scores", output=MASKED)
        check_silent(NonfiniteLoss, b.trace)


class TestFires:
    def test_the_first_place_in_the_first_step(self):
        b = run()
        b.layer("fc1", output=FINE)
        culprit = b.layer("fc2", output=from_step(3, ONE_NAN))
        b.activation("tanh", pre=from_step(3, ONE_NAN))
        finding = check_fires(
            NonfiniteLoss,
            b.trace,
            at=culprit,
            message="the loss is NaN at step 3 and at 2 of the 2 later steps; "
            "the first non-finite value is in the output of fc2 (linear)",
            severity=Severity.ERROR,
        )
        assert (finding.measured, finding.threshold, finding.unit) == (3.0, MAX_NONFINITE_STEPS, "steps")
        assert finding.steps == (3, 5)
        assert (finding.evidence[1].value, finding.evidence[1].unit) == (1.0, "of 12")

    def test_the_loss_itself_made_it(self):
        b = run(first=0, value=math.inf, steps=[0])
        b.layer("fc", output=FINE)
        site = b.loss("objective", value=math.inf)
        message = "the loss is infinite at step 0; the first non-finite value is in the value of objective"
        check_fires(NonfiniteLoss, b.trace, at=site, message=message)

    def test_parameters_come_before_what_they_make(self):
        b = run(value=-math.inf)
        layer = b.layer("fc", weight=from_step(3, ONE_NAN), output=from_step(3, ONE_NAN))
        finding = check_fires(NonfiniteLoss, b.trace, at=b.trace.sites[layer.parameters[0]])
        assert finding.message.startswith("the loss is minus infinite at step 3 and at 2")
        assert finding.message.endswith(
            "the first non-finite value is in the value of fc.weight, "
            "which the update of step 2, whose loss was finite, left so"
        )

    def test_masks_that_were_always_infinite_are_not_the_place(self):
        b = run()
        b.layer("scores", output=MASKED)
        culprit = b.activation("relu", pre=from_step(3, ONE_NAN))
        check_fires(NonfiniteLoss, b.trace, at=culprit)

    def test_a_step_between_samples_names_the_sampled_step(self):
        b = TraceBuilder([0, 1, 40])
        b.trace.objective |= dict.fromkeys(range(17, 41), math.nan)
        culprit = b.layer("fc", output=from_step(40, ONE_NAN))
        message = (
            "the loss is NaN at step 17 and at 23 of the 23 later steps; "
            "at step 40, the next that was sampled, the first is in the output of fc (linear)"
        )
        check_fires(NonfiniteLoss, b.trace, at=culprit, message=message)

    @pytest.mark.parametrize(
        ("name", "role"), [("born", "output"), ("born_in_input", "input"), ("spoiled", "value")], ids=str
    )
    def test_what_the_graph_of_a_step_between_samples_told(self, name, role):
        b = TraceBuilder([0, 1, 18])
        b.trace.objective |= dict.fromkeys(range(17, 19), math.nan)
        layer = b.layer("fc", weight=FINE, output=from_step(18, ONE_NAN))
        site = b.trace.sites[layer.parameters[0]] if name == "spoiled" else layer
        b.trace.add_scalar(17, site.index, name, 5)
        b.trace.add_scalar(17, site.index, f"{name}_of", 12)
        message = (
            "the loss is NaN at step 17 and at 1 of the 1 later steps; "
            f"the first non-finite value is in the {role} of {site.label}"
        )
        finding = check_fires(NonfiniteLoss, b.trace, at=site, message=message)
        assert (finding.evidence[1].value, finding.evidence[1].unit) == (5.0, "of 12")

    @pytest.mark.parametrize(("name", "role"), [("born", "value"), ("born_in_input", "target")])
    def test_a_loss_function_that_made_it_or_was_given_it(self, name, role):
        b = TraceBuilder([0, 1, 18])
        b.trace.objective |= dict.fromkeys(range(17, 19), math.nan)
        site = b.loss("mse_loss")
        b.trace.add_scalar(17, site.index, name, 1)
        finding = check_fires(NonfiniteLoss, b.trace, at=site)
        assert finding.message.endswith(f"the first non-finite value is in the {role} of mse_loss")

    def test_what_was_not_finite_with_a_finite_loss_is_not_the_place(self):
        b = TraceBuilder([0, 1, 18])
        b.trace.objective |= dict.fromkeys(range(17, 19), math.nan)
        b.trace.add_scalar(17, b.layer("masked", output=MASKED).index, "born", 4)
        culprit = b.layer("fc", output=from_step(18, ONE_NAN))
        check_fires(NonfiniteLoss, b.trace, at=culprit)

    def test_nothing_sampled_points_at_the_run(self):
        check_fires(NonfiniteLoss, run(first=5).trace, at=None, message="the loss is NaN at step 5")

    def test_a_loss_that_came_back_is_a_warning(self):
        b = TraceBuilder()
        b.trace.objective[4] = math.nan
        site = b.loss("objective")
        b.trace.loss_calls = [c for c in b.trace.loss_calls if c.step != 4] + [LossCall(4, site.index, math.nan, None)]
        finding = check_fires(NonfiniteLoss, b.trace, at=site, severity=Severity.WARNING)
        assert finding.message.startswith("the loss is NaN at step 4; ")


@pytest.mark.parametrize(("value", "fires"), [(1.7e308, False), (math.inf, True)])
def test_threshold(value, fires):
    b = run(first=9, value=value, steps=range(10))
    if fires:
        check_fires(NonfiniteLoss, b.trace, at=None)
    else:
        check_silent(NonfiniteLoss, b.trace)


def test_role_names_are_those_of_the_trace():
    assert {Role.INPUT.value, Role.OUTPUT.value, Role.VALUE.value} == {"input", "output", "value"}


def test_lacking():
    check_lacks(NonfiniteLoss, Trace(), "the values of the loss")
