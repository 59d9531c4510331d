import numpy as np
import pytest

from unstuck.rules.loss.sum_reduction import MIN_FACTOR, TERMS_SHARE, SumReduction
from unstuck.trace import Kind, LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def run(factor=32.0, *, elements=32.0, ratio=0.1, optimizer="SGD", op="cross_entropy", last=None):
    """A run whose objective is `factor` times the mean loss, and whose weight changes by `ratio` a step."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.5, 3, 16))
    loss = b.site(Kind.LOSS, op, after=layer)
    if optimizer:
        b.site(Kind.OPTIMIZER, optimizer)
    b.record(b.trace.sites[layer.parameters[0]], Role.UPDATE, normal(0.5 * ratio, 3, 16))
    for step in b.steps:
        value = 1.0 + 0.1 * step
        b.trace.loss_calls.append(LossCall(step, loss.index, value, 1.1))
        b.scalar(loss, "target_elements", elements, [step])
        b.trace.objective[step] = factor * value
    if last is not None:
        b.trace.objective[9] = last
    return b, loss


class TestSilent:
    @pytest.mark.parametrize(
        "facts",
        [
            {"factor": 1.0},
            {"elements": 32.0 * 28},
            {"elements": 4.0, "factor": 4.0},
            {"ratio": 0.029},
            {"optimizer": "Adam"},
            {"op": "objective"},
            {"factor": 16.0},
        ],
        ids=[
            "a mean",
            "a sum over features",
            "a small batch",
            "a learning rate that allows for it",
            "updates that do not depend on the scale",
            "written by hand",
            "a sum divided by two",
        ],
    )
    def test_runs_with(self, facts):
        check_silent(SumReduction, run(**facts)[0].trace)

    def test_a_single_pass_of_which_no_update_was_seen(self):
        b = TraceBuilder(steps=[0])
        layer = b.layer("fc", weight=normal(0.5, 3, 16))
        loss = b.site(Kind.LOSS, "cross_entropy", after=layer)
        b.site(Kind.OPTIMIZER, "SGD")
        b.trace.loss_calls.append(LossCall(0, loss.index, 1.0, 1.1))
        b.scalar(loss, "target_elements", 32.0, [0])
        b.trace.objective[0] = 32.0
        check_silent(SumReduction, b.trace)

    def test_an_output_layer_that_learns_faster_than_the_rest(self):
        b, loss = run(ratio=0.2)
        hidden = b.layer("hidden", weight=normal(0.5, 16, 16))
        b.edge(hidden, b.trace.sites[0])
        weight = b.trace.sites[hidden.parameters[0]]
        b.record(weight, Role.UPDATE, normal(0.5 * 0.029, 16, 16))
        check_silent(SumReduction, b.trace)
        b.record(weight, Role.UPDATE, normal(0.5 * 0.1, 16, 16))
        check_fires(SumReduction, b.trace, at=loss)

    def test_further_terms(self):
        b, _ = run()
        for step in b.steps:
            b.trace.objective[step] += 10.0 * step
        check_silent(SumReduction, b.trace)


class TestFires:
    def test_a_sum(self):
        b, loss = run()
        finding = check_fires(
            SumReduction,
            b.trace,
            at=loss,
            message="backward is called on the sum of 32 terms, whose gradient is 32 times that of their mean, "
            "and an update changes a weight by 0.1 of its values",
        )
        assert (finding.measured, finding.threshold) == (pytest.approx(32.0), 8.0)

    def test_just_oversized(self):
        b, loss = run(ratio=0.036)
        check_fires(SumReduction, b.trace, at=loss)

    def test_updates_by_hand(self):
        b, loss = run(optimizer=None)
        check_fires(SumReduction, b.trace, at=loss)

    def test_a_loss_that_is_no_longer_finite(self):
        b, loss = run(ratio=0.001, last=np.nan)
        check_fires(SumReduction, b.trace, at=loss)


@pytest.mark.parametrize("terms", [MIN_FACTOR - 0.1, MIN_FACTOR])
def test_number_of_terms(terms):
    b, loss = run(factor=terms, elements=terms)
    check_fires(SumReduction, b.trace, at=loss) if terms == MIN_FACTOR else check_silent(SumReduction, b.trace)


@pytest.mark.parametrize("side", [-0.01, 0.01])
@pytest.mark.parametrize("end", [0, 1])
def test_share_of_the_elements(end, side):
    b, loss = run(factor=100 * (TERMS_SHARE[end] + side), elements=100.0)
    inside = side > 0 if end == 0 else side < 0
    check_fires(SumReduction, b.trace, at=loss) if inside else check_silent(SumReduction, b.trace)


def test_needs_a_loss_call():
    check_lacks(SumReduction, TraceBuilder().trace, "a call of a loss in torch.nn.functional with a known baseline")
