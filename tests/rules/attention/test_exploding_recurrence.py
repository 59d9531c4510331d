import math

import numpy as np
import pytest

from unstuck.rules.attention.exploding_recurrence import ExplodingRecurrence
from unstuck.trace import Kind

from ..helpers import TraceBuilder, check_fires, check_lacks, check_silent
from .sequences import fused, gradients, line_loop, module_loop

LOOPS = pytest.mark.parametrize("loop", [module_loop, line_loop])


class TestSilent:
    @pytest.mark.parametrize("growth", [0.6, 1.0, 1.04])
    def test_fused_layers_that_do_not_explode(self, growth):
        check_silent(ExplodingRecurrence, fused(growth)[0].trace)

    @LOOPS
    @pytest.mark.parametrize("growth", [0.6, 1.0, 1.04])
    def test_loops_that_do_not_explode(self, loop, growth):
        check_silent(ExplodingRecurrence, loop(gradients(growth, 60))[0].trace)

    def test_short_batches_among_long_ones(self):
        b, site = fused(1.2, length=20)
        b.scalar(site, "state_steps", 60, [0])
        check_silent(ExplodingRecurrence, b.trace)

    def test_a_layer_that_is_not_trained(self):
        b, site = fused(1.2)
        b.trace.sites[site.parameters[0]].requires_grad = False
        check_silent(ExplodingRecurrence, b.trace)

    def test_one_odd_step(self):
        b, site = fused(1.0)
        b.scalar(site, "state_growth", 1.5, [10])
        check_silent(ExplodingRecurrence, b.trace)

    def test_gradients_that_do_not_grow_steadily(self):
        jump = np.where(np.arange(60) < 3, 1e6, 1.0)
        check_silent(ExplodingRecurrence, module_loop(jump)[0].trace)

    def test_too_few_steps_of_a_longer_run(self):
        check_silent(ExplodingRecurrence, fused(1.2, steps=(0, 5))[0].trace)


class TestFires:
    def test_fused(self):
        b, site = fused(1.1)
        finding = check_fires(
            ExplodingRecurrence,
            b.trace,
            at=site,
            message="gradients grow 1.1-fold with each time step back through memory (lstm), which is 4.5e+02-fold "
            "over 64 time steps; 1.05 is the limit",
        )
        assert (finding.measured, finding.threshold, finding.steps) == (1.1, 1.05, (0, 40))

    @LOOPS
    def test_loops(self, loop):
        b, site = loop(gradients(1.06, 60))
        finding = check_fires(ExplodingRecurrence, b.trace, at=site)
        assert finding.measured == pytest.approx(1.06)

    def test_gradients_that_overflow(self):
        b, site = fused(1.1)
        b.scalar(site, "state_growth", math.inf, (0, 5, 10, 20, 40))
        assert check_fires(ExplodingRecurrence, b.trace, at=site).measured == 1e9

    def test_a_run_that_broke_after_one_step(self):
        b, site = fused(1.5, steps=[0])
        b.trace.objective |= dict.fromkeys(range(1, 200), math.nan)
        check_fires(ExplodingRecurrence, b.trace, at=site)


@LOOPS
@pytest.mark.parametrize(("growth", "fires"), [(1.0495, False), (1.0505, True)])
def test_near_the_limit(loop, growth, fires):
    for b, site in (fused(growth), loop(gradients(growth, 60))):
        if fires:
            check_fires(ExplodingRecurrence, b.trace, at=site)
        else:
            check_silent(ExplodingRecurrence, b.trace)


class TestLacks:
    missing = "a recurrent layer or loop over 50 time steps"

    def test_a_recurrence(self):
        check_lacks(ExplodingRecurrence, TraceBuilder().trace, self.missing)

    def test_enough_time_steps(self):
        check_lacks(ExplodingRecurrence, fused(1.5, length=49)[0].trace, self.missing)

    @LOOPS
    def test_layers_called_often_but_not_on_their_own_output(self, loop):
        check_lacks(ExplodingRecurrence, loop(gradients(1.2, 60), circle=False)[0].trace, self.missing)

    def test_layers_of_other_parameters_on_one_line(self):
        b, _ = line_loop(gradients(1.2, 60))
        for site in b.trace.of_kind(Kind.WEIGHT_LAYER)[::2]:
            site.parameters = (site.index,)
        kept = [site for site in b.trace.of_kind(Kind.WEIGHT_LAYER) if site.parameters == (site.index,)]
        assert len(kept) == 30
        check_lacks(ExplodingRecurrence, b.trace, self.missing)
