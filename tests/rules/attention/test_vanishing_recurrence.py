from dataclasses import replace

import numpy as np
import pytest

from unstuck.findings import Severity
from unstuck.rules.attention.vanishing_recurrence import VanishingRecurrence
from unstuck.trace import LossCall, Role

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent, forget
from .sequences import fused, gradients, line_loop, module_loop, updated

LOOPS = pytest.mark.parametrize("loop", [module_loop, line_loop])


def stuck(pair, value=1.0, noise=0.01, baseline=1.0):
    """Give a run one loss that stays where it is, with a little noise."""
    b, site = pair
    loss = b.loss(baseline=baseline)
    wobble = noise * np.cos(1.7 * np.arange(len(b.steps)))
    b.trace.loss_calls = [
        LossCall(step, loss.index, value + more, baseline) for step, more in zip(b.steps, wobble.tolist(), strict=True)
    ]
    return b, site


class TestSilent:
    @pytest.mark.parametrize("growth", [0.9, 1.0, 1.2])
    def test_fused_layers_that_remember(self, growth):
        check_silent(VanishingRecurrence, stuck(fused(growth))[0].trace)

    @LOOPS
    def test_loops_that_remember(self, loop):
        check_silent(VanishingRecurrence, stuck(loop(gradients(0.9, 60)))[0].trace)

    @LOOPS
    def test_loops_whose_every_step_feeds_the_loss(self, loop):
        check_silent(VanishingRecurrence, stuck(loop(np.linspace(1.5, 1.0, 60)))[0].trace)

    @pytest.mark.parametrize(("value", "noise"), [(0.5, 0.01), (0.97, 0.01), (0.95, 0.1)])
    def test_a_fused_layer_that_forgets_in_a_network_that_learns(self, value, noise):
        check_silent(VanishingRecurrence, stuck(fused(0.5), value, noise)[0].trace)

    def test_a_fused_layer_that_forgets_in_a_run_too_short_to_tell(self):
        check_silent(VanishingRecurrence, stuck(fused(0.5, run=range(60)))[0].trace)

    def test_a_layer_that_is_hardly_updated(self):
        b, site = stuck(fused(0.5))
        weight = b.trace.sites[site.parameters[0]]
        forget(b.trace, weight, Role.UPDATE)
        updated(b, weight, 5e-5)
        check_silent(VanishingRecurrence, b.trace)

    def test_a_fused_layer_that_forgets_and_a_loss_without_baseline(self):
        check_silent(VanishingRecurrence, stuck(fused(0.5), baseline=None)[0].trace)

    def test_a_fused_layer_that_forgets_and_two_losses_that_fight(self):
        b, _ = stuck(fused(0.5))
        b.loss(value=1.0, baseline=1.0)
        check_silent(VanishingRecurrence, b.trace)

    def test_a_layer_that_is_not_trained(self):
        b, site = stuck(fused(0.5))
        b.trace.sites[site.parameters[0]].requires_grad = False
        check_silent(VanishingRecurrence, b.trace)

    def test_one_odd_step(self):
        b, site = stuck(fused(0.95))
        b.scalar(site, "state_kept", 0.0, [10])
        check_silent(VanishingRecurrence, b.trace)


class TestFires:
    def test_a_fused_layer_in_a_network_that_does_not_learn(self):
        b, site = stuck(fused(0.5, length=60))
        finding = check_fires(
            VanishingRecurrence,
            b.trace,
            at=site,
            severity=Severity.WARNING,
            message="8.7e-19 of the gradient is left when it has come back over 60 time steps of memory (lstm); "
            "0.0001 is the limit; the loss has not left its baseline",
        )
        assert finding.measured == pytest.approx(0.5**60)

    @LOOPS
    def test_loops(self, loop):
        b, site = stuck(loop(gradients(0.7, 60)))
        check_fires(VanishingRecurrence, b.trace, at=site, severity=Severity.WARNING)

    @pytest.mark.parametrize(("factor", "severity"), [(1.02, Severity.INFO), (0.98, Severity.WARNING)])
    def test_a_network_that_does_not_learn_and_a_gradient_that_is_not_quite_lost(self, factor, severity):
        b, site = stuck(fused((6e-8 * factor) ** (1 / 40), length=40))
        check_fires(VanishingRecurrence, b.trace, at=site, severity=severity)

    def test_a_gradient_that_has_underflowed(self):
        b, site = module_loop(np.where(np.arange(60) < 20, 0.0, gradients(0.1, 60)))
        assert check_fires(VanishingRecurrence, b.trace, at=site).measured == 0.0

    @LOOPS
    def test_a_loop_in_a_network_that_learns_is_an_information(self, loop):
        b, site = loop(gradients(0.7, 60))
        finding = check_fires(VanishingRecurrence, stuck((b, site), 0.5)[0].trace, at=site, severity=Severity.INFO)
        assert not finding.message.endswith("baseline")

    def test_a_loss_that_has_hardly_left_its_baseline(self):
        b, site = stuck(fused(0.5), 0.985)
        check_fires(VanishingRecurrence, b.trace, at=site, severity=Severity.WARNING)

    def test_a_loss_that_fell_to_its_baseline_alone(self):
        b, site = stuck(fused(0.5))
        b.trace.loss_calls = [replace(call, value=9.0) if call.step < 90 else call for call in b.trace.loss_calls]
        check_fires(VanishingRecurrence, b.trace, at=site, severity=Severity.WARNING)


@pytest.mark.parametrize(("growth", "fires"), [(0.0001 ** (1 / 60) * 1.001, False), (0.0001 ** (1 / 60) * 0.999, True)])
def test_near_the_limit(growth, fires):
    b, _ = stuck(fused(growth, length=60))
    assert bool(list(VanishingRecurrence().detect(b.trace))) is fires


def test_needs_a_recurrence():
    check_lacks(VanishingRecurrence, TraceBuilder().trace, "a recurrent layer or loop over 16 time steps")
