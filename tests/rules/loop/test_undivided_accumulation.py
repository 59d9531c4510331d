import pytest

from unstuck.findings import Severity
from unstuck.rules.loop.undivided_accumulation import UndividedAccumulation
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent


def loop(
    k=4, factor=1.0, *, added=True, alike=1.0, losses=1, op="mse_loss", optimizers=("SGD",), steps=range(10), bad=()
):
    """A loop with k backward calls a step, each on `factor` times a mean loss (NaN at the `bad` steps)."""
    b = TraceBuilder(steps)
    sites = [b.site(Kind.LOSS, op) for _ in range(losses)]
    backward = b.site(Kind.BACKWARD, "backward")
    for name in optimizers:
        b.site(Kind.OPTIMIZER, name)
    for step in b.steps:
        values = [float("nan") if step in bad else 2.0 + 0.1 * i for i in range(k)]
        objectives = [factor * value for value in values]
        b.trace.loss_calls += [LossCall(step, sites[i % losses].index, v, None) for i, v in enumerate(values)]
        b.trace.add_vector(step, backward.index, "objectives", objectives)
        b.scalar(backward, "alike", alike, [step])
        b.trace.objective[step] = sum(objectives) if added else objectives[-1]
    return b, backward


class TestSilent:
    @pytest.mark.parametrize(
        "facts",
        [
            {"k": 1},
            {"factor": 1 / 4},
            {"factor": 16.0},
            {"added": False},
            {"alike": 0.0},
            {"losses": 2},
            {"op": "objective"},
            {"optimizers": ("SGD", "SGD")},
        ],
        ids=[
            "one call",
            "divided",
            "summed over the batch",
            "closures",
            "another head each time",
            "several losses",
            "written by hand",
            "a GAN",
        ],
    )
    def test_loops_with(self, facts):
        check_silent(UndividedAccumulation, loop(**facts)[0].trace)


class TestFires:
    def test_whole_losses(self):
        b, backward = loop()
        finding = check_fires(
            UndividedAccumulation,
            b.trace,
            at=backward,
            severity=Severity.WARNING,
            message="4 backward calls an update, each on the whole mean loss of its batch: "
            "together the gradient of 4 times the mean",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (4.0, 1.0, (0, 9))

    def test_two_are_enough(self):
        b, backward = loop(k=2)
        check_fires(UndividedAccumulation, b.trace, at=backward)

    def test_a_run_that_ends_in_nan(self):
        b, backward = loop(bad=range(4, 10))
        check_fires(UndividedAccumulation, b.trace, at=backward)

    @pytest.mark.parametrize("name", ["AdamW", "RMSprop"])
    def test_updates_that_do_not_depend_on_the_scale_of_the_loss(self, name):
        b, backward = loop(optimizers=(name,))
        check_fires(UndividedAccumulation, b.trace, at=backward, severity=Severity.INFO)


@pytest.mark.parametrize(("others", "fires"), [(100, False), (99, True)])
def test_near_the_share_of_the_steps(others, fires):
    """At 100 or 101 of 200 steps; at the others the calls do not add up."""
    b, backward = loop(steps=range(200))
    b.trace.objective.update(dict.fromkeys(range(others), 0.0))
    if fires:
        check_fires(UndividedAccumulation, b.trace, at=backward)
    else:
        check_silent(UndividedAccumulation, b.trace)


def test_needs_values():
    b = TraceBuilder()
    b.trace.objective.clear()
    check_lacks(UndividedAccumulation, b.trace, "the values of the loss")
