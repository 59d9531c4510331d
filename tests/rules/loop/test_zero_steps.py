import pytest

from unstuck.findings import Severity
from unstuck.rules.loop.zero_steps import ZeroSteps
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def run(steps, *, calls=None, empty=(), filled=()):
    """A run of so many steps; a loop that got nothing at the steps `empty`, and batches until the steps `filled`."""
    b = TraceBuilder(range(steps))
    b.trace.facts.optimizer_steps = steps
    b.trace.facts.backward_calls = steps if calls is None else calls
    loader = b.site(Kind.LOADER, "for loop") if empty else None
    for step in empty:
        b.scalar(loader, "empty", 1.0, [step])
    for step in filled:
        b.scalar(loader, "filled", 1.0, [step])
    return b, loader


def never_updated(calls=80, *, accumulated=False, optimizer_steps=0):
    b = TraceBuilder([0])
    b.trace.facts.backward_calls, b.trace.facts.optimizer_steps = calls, optimizer_steps
    backward = b.site(Kind.BACKWARD, "backward")
    b.trace.add_vector(0, backward.index, "objectives", [0.5] * calls)
    b.trace.objective[0] = 0.5 * calls if accumulated else 0.5
    return b, backward


class TestSilent:
    def test_a_run_with_updates(self):
        check_silent(ZeroSteps, run(10)[0].trace)

    def test_an_empty_loader_beside_the_training(self):
        check_silent(ZeroSteps, run(10, empty=[4, 8])[0].trace)

    def test_a_loop_that_ends_while_the_training_goes_on(self):
        check_silent(ZeroSteps, run(10, empty=[4], filled=[2])[0].trace)

    def test_gradients_that_are_still_accumulated(self):
        check_silent(ZeroSteps, never_updated(accumulated=True)[0].trace)

    @pytest.mark.parametrize("case", [never_updated(50), never_updated(optimizer_steps=1)])
    def test_few_calls_or_an_update(self, case):
        check_silent(ZeroSteps, case[0].trace)

    def test_training_in_another_thread(self):
        b, _ = run(0, empty=[0])
        b.trace.facts.other_threads = True
        check_silent(ZeroSteps, b.trace)


class TestFires:
    def test_a_run_that_ends_without_a_step(self):
        b, loader = run(0, empty=[0])
        finding = check_fires(
            ZeroSteps,
            b.trace,
            at=loader,
            message="the loader has no batches for this loop, and the run makes no update",
            severity=Severity.ERROR,
        )
        assert (finding.measured, finding.threshold) == (1.0, 0.0)
        assert [(e.name, e.value) for e in finding.evidence] == [("updates", 0.0), ("backward calls", 0.0)]

    def test_an_iterator_that_lasts_for_one_epoch(self):
        b, loader = run(10, empty=[10], filled=[0])
        check_fires(
            ZeroSteps,
            b.trace,
            at=loader,
            message="this loop had batches once; from step 10 on it has none, and training ends",
            severity=Severity.WARNING,
        )

    def test_no_update_after_many_backward_calls(self):
        b, backward = never_updated(51)
        finding = check_fires(
            ZeroSteps, b.trace, at=backward, message="51 backward calls, and no update of the parameters"
        )
        assert (finding.measured, finding.threshold) == (51.0, 50.0)


def test_needs_a_backward_pass_or_an_empty_loader():
    check_lacks(ZeroSteps, run(0)[0].trace, "a backward pass, or a loop over an empty DataLoader")
