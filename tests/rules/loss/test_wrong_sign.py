import numpy as np
import pytest

from unstuck.rules.loss.wrong_sign import WrongSign
from unstuck.trace import Kind, LossCall

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, normal


def run(factor=-1.0, *, maximize=0.0, op="nll_loss", optimizers=1, holds_layer=True, noise=0.0, terms=0.0):
    """A run whose objective is `factor` times a rising loss, with `noise` on the factor and `terms` besides."""
    b = TraceBuilder()
    layer = b.layer("fc", weight=normal(0.5, 3, 16))
    loss = b.site(Kind.LOSS, op, after=layer)
    for _ in range(optimizers):
        site = b.site(Kind.OPTIMIZER, "AdamW")
        site.parameters = layer.parameters if holds_layer else ()
        b.scalar(site, "maximize", maximize, b.steps)
        b.scalar(site, "lr", 0.1, b.steps)
    draw = np.random.default_rng(0)
    for step in b.steps:
        value = 1.0 + 0.5 * step
        b.trace.loss_calls.append(LossCall(step, loss.index, value, 1.1))
        b.trace.objective[step] = (factor + noise * draw.standard_normal()) * value - terms
    return b, loss


class TestSilent:
    @pytest.mark.parametrize(
        "facts",
        [
            {"factor": 1.0},
            {"factor": 0.25},
            {"factor": -1.0, "maximize": 1.0},
            {"noise": 0.5},
            {"factor": 1.0, "terms": 20.0},
            {"op": "kl_div"},
            {"op": "objective"},
            {"holds_layer": False},
        ],
        ids=[
            "a loss",
            "a part of a loss",
            "a likelihood that is maximised",
            "rewards",
            "a bonus",
            "a loss that may be negative",
            "written by hand",
            "an adversarial input",
        ],
    )
    def test_runs_with(self, facts):
        check_silent(WrongSign, run(**facts)[0].trace)

    def test_several_backward_calls(self):
        b, _ = run()
        for _ in range(2):
            b.site(Kind.BACKWARD, "backward")
        check_silent(WrongSign, b.trace)

    def test_optimizers_that_step_by_turns(self):
        b, _ = run()
        other = b.site(Kind.OPTIMIZER, "AdamW")
        b.scalar(other, "lr", 0.1, [10, 11])
        check_silent(WrongSign, b.trace)

    def test_optimizers_that_pull_apart(self):
        b, _ = run(optimizers=2)
        b.scalar(b.trace.of_kind(Kind.OPTIMIZER)[1], "maximize", 1.0, b.steps)
        check_silent(WrongSign, b.trace)


class TestFires:
    def test_minus_a_loss(self):
        b, loss = run()
        finding = check_fires(
            WrongSign,
            b.trace,
            at=loss,
            message="minus nll_loss is minimised: each update raises the loss, 1 at step 0, 5.5 at step 9",
        )
        assert (finding.measured, finding.threshold) == (pytest.approx(-1.0), 0.0)

    def test_through_a_scale(self):
        b, loss = run(factor=-0.25)
        assert check_fires(WrongSign, b.trace, at=loss).message.startswith("minus 0.25 times nll_loss is minimised")

    def test_in_a_rounded_precision(self):
        b, loss = run(noise=0.004)
        check_fires(WrongSign, b.trace, at=loss)

    def test_an_optimizer_that_maximises(self):
        b, _ = run(factor=1.0, maximize=1.0, op="mse_loss")
        finding = check_fires(
            WrongSign,
            b.trace,
            at=b.trace.of_kind(Kind.OPTIMIZER)[0],
            message="AdamW maximises mse_loss: each update raises the loss, 1 at step 0, 5.5 at step 9",
        )
        assert finding.measured == pytest.approx(-1.0)


@pytest.mark.parametrize("maximize", [0.0, 1.0])
@pytest.mark.parametrize("factor", [1e-3, -1e-3])
def test_near_zero(factor, maximize):
    """A thousandth of a loss is minimised or maximised, and so is minus a thousandth."""
    b, loss = run(factor, maximize=maximize)
    if (factor < 0) is not bool(maximize):
        site = b.trace.of_kind(Kind.OPTIMIZER)[0] if maximize else loss
        assert check_fires(WrongSign, b.trace, at=site).measured == pytest.approx(-1e-3)
    else:
        check_silent(WrongSign, b.trace)


def test_needs_an_optimizer():
    check_lacks(WrongSign, run(optimizers=0)[0].trace, "an update by an optimizer of torch")
