import pytest

from unstuck.rules.loop.cleared_before_step import ClearedBeforeStep
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def loop(had=lambda _: True, has=lambda _: False, early=lambda _: False, steps=range(21)):
    b = TraceBuilder(steps)
    optimizer = b.site(Kind.OPTIMIZER, "AdamW")
    for step in b.steps[1:]:
        for name, value in (("had_gradients", had), ("has_gradients", has), ("precedes_backward", early)):
            b.scalar(optimizer, name, float(value(step)), [step])
    return b, optimizer


class TestSilent:
    def test_gradients_that_are_there(self):
        check_silent(ClearedBeforeStep, loop(has=lambda _: True)[0].trace)

    def test_gradients_that_were_never_there(self):
        check_silent(ClearedBeforeStep, loop(had=lambda _: False)[0].trace)

    def test_updates_before_backward_are_another_fault(self):
        check_silent(ClearedBeforeStep, loop(early=lambda _: True)[0].trace)


class TestFires:
    def test_every_update(self):
        b, optimizer = loop()
        b.site(Kind.BACKWARD, "backward")
        finding = check_fires(
            ClearedBeforeStep,
            b.trace,
            at=optimizer,
            message="AdamW updates without gradients at 20 of 20 sampled updates: backward left some, "
            "and they were cleared before the update",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (100.0, 90.0, (1, 20))
        assert [place.site for place in finding.related] == ["backward"]


@pytest.mark.parametrize(("left", "fires"), [(20, False), (19, True)])
def test_near_the_limit(left, fires):
    """Of 200 updates, 180 or 181 are without gradients: 90 or 90.5 %."""
    b, optimizer = loop(has=lambda step: step <= left, steps=range(201))
    if fires:
        assert check_fires(ClearedBeforeStep, b.trace, at=optimizer).measured == 90.5
    else:
        check_silent(ClearedBeforeStep, b.trace)


def test_needs_a_backward_pass():
    b = TraceBuilder()
    b.trace.facts.backward_calls = 0
    check_lacks(ClearedBeforeStep, b.trace, "a backward pass")
