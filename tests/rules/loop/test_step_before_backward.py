import pytest

from unstuck.rules.loop.step_before_backward import StepBeforeBackward
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def loop(early, has=1.0, steps=range(10)):
    b = TraceBuilder(steps)
    optimizer = b.site(Kind.OPTIMIZER, "SGD")
    for step in b.steps:
        b.scalar(optimizer, "precedes_backward", float(early(step)), [step])
        b.scalar(optimizer, "has_gradients", has, [step])
    return b, optimizer


class TestSilent:
    def test_the_usual_order(self):
        check_silent(StepBeforeBackward, loop(lambda _: False)[0].trace)

    def test_one_update_before_the_loop(self):
        check_silent(StepBeforeBackward, loop(lambda step: step == 0)[0].trace)

    def test_a_loop_without_an_optimizer(self):
        check_silent(StepBeforeBackward, TraceBuilder().trace)


class TestFires:
    def test_a_stale_gradient(self):
        b, optimizer = loop(lambda _: True)
        b.site(Kind.BACKWARD, "backward")
        finding = check_fires(
            StepBeforeBackward,
            b.trace,
            at=optimizer,
            message="SGD updates between the forward pass and its backward call at 10 of 10 sampled updates, "
            "with the gradient of the step before",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (100.0, 50.0, (0, 9))
        assert [place.site for place in finding.related] == ["backward"]

    def test_no_gradient_at_all(self):
        b, optimizer = loop(lambda _: True, has=0.0)
        assert "without any gradient" in check_fires(StepBeforeBackward, b.trace, at=optimizer).message


@pytest.mark.parametrize(("early", "fires"), [(100, False), (101, True)])
def test_near_the_limit(early, fires):
    """At 100 or 101 of 200 updates."""
    b, optimizer = loop(lambda step: step < early, steps=range(200))
    if fires:
        assert check_fires(StepBeforeBackward, b.trace, at=optimizer).measured == 50.5
    else:
        check_silent(StepBeforeBackward, b.trace)


def test_needs_a_backward_pass():
    b = TraceBuilder()
    b.trace.facts.backward_calls = 0
    check_lacks(StepBeforeBackward, b.trace, "a backward pass")
