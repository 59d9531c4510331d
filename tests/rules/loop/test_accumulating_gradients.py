import pytest

from unstuck.rules.loop.accumulating_gradients import AccumulatingGradients
from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def loop(left, steps=range(10)):
    """A loop with one backward call, told at each step from 1 on whether it added to gradients (None: not told)."""
    b = TraceBuilder(steps)
    layer = b.layer("fc", weight=normal(0.1, 3, 4))
    backward = b.site(Kind.BACKWARD, "backward")
    for step in b.steps:
        b.trace.add_vector(step, backward.index, "objectives", [1.0])
        if step and left(step) is not None:
            b.scalar(backward, "accumulates", left(step), [step])
    weight = b.trace.sites[layer.parameters[0]]
    b.record(weight, Role.GRADIENT, {step: normal(1.0 + step, 3, 4) for step in b.steps})
    return b, backward


class TestSilent:
    def test_cleared_gradients(self):
        check_silent(AccumulatingGradients, loop(lambda _: None)[0].trace)

    def test_accumulation_within_one_update(self):
        check_silent(AccumulatingGradients, loop(lambda _: 0.0)[0].trace)

    def test_every_other_step(self):
        check_silent(AccumulatingGradients, loop(lambda step: float(step % 2 == 0))[0].trace)

    def test_too_few_steps(self):
        check_silent(AccumulatingGradients, loop(lambda step: 1.0 if step < 4 else 0.0)[0].trace)


class TestFires:
    def test_every_step(self):
        b, backward = loop(lambda _: 1.0)
        b.site(Kind.OPTIMIZER, "SGD")
        finding = check_fires(
            AccumulatingGradients,
            b.trace,
            at=backward,
            message="at 9 of 9 sampled steps after the first, backward added to the gradients that the last update "
            "had used: nothing clears them in between",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (100.0, 50.0, (1, 9))
        assert [place.site for place in finding.related] == ["SGD"]
        assert [(e.name, pytest.approx(e.value)) for e in finding.evidence] == [
            ("growth of the largest weight's gradient", 10.0)
        ]


@pytest.mark.parametrize(("added", "fires"), [(100, False), (101, True)])
def test_near_the_limit(added, fires):
    """At 100 or 101 of the 200 steps after the first."""
    b, backward = loop(lambda step: 1.0 if step <= added else None, steps=range(201))
    if fires:
        assert check_fires(AccumulatingGradients, b.trace, at=backward).measured == 50.5
    else:
        check_silent(AccumulatingGradients, b.trace)


def test_needs_a_backward_pass():
    b = TraceBuilder()
    b.trace.facts.backward_calls = 0
    check_lacks(AccumulatingGradients, b.trace, "a backward pass")
