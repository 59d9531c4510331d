"""A run that is mended in between is judged by what comes after, and by what came before where that says nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.api import judge_stretches
from unstuck.config import Config
from unstuck.fixes.inflight import WATCHED_AFTER
from unstuck.trace import Stretch


def blocks(depth: int = 8) -> list[list[Tensor]]:
    """Residual branches as large as the stream."""
    g = torch.Generator().manual_seed(0)
    make = lambda n, m: (torch.randn(n, m, generator=g) * (2 / n) ** 0.5).requires_grad_()  # noqa: E731
    return [[make(16, 32), make(32, 16)] for _ in range(depth)]


def stream(layers: list[list[Tensor]], x: Tensor) -> Tensor:
    for up, down in layers:
        x = x + torch.relu(x @ up) @ down
    return x


def by_hand(run: unstuck.Run, layers: list[list[Tensor]], steps: int = 30) -> None:
    """Plain gradient descent without an optimizer: the next forward pass comes before anything can be mended."""
    parameters = [weight for pair in layers for weight in pair]
    g = torch.Generator().manual_seed(1)
    with run:
        for _ in range(steps):
            x = torch.randn(32, 16, generator=g)
            loss = F.mse_loss(stream(layers, x), x)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 1e-4 * gradient
    assert run.session.trace.facts.internal_error is None


@pytest.fixture
def mended_by_hand() -> unstuck.Run:
    run = unstuck.watch(unsafe_fixes=True)
    by_hand(run, blocks())
    return run


class TestALoopWithoutOptimizer:
    def test_the_fault_is_there_without_mending(self):
        run = unstuck.watch()
        by_hand(run, blocks())
        assert run.report().causes[0].root.code == "I006"

    def test_the_start_is_the_first_pass_that_was_mended(self, mended_by_hand):
        (before, after), (fix,) = mended_by_hand._stretches(), mended_by_hand.fixes
        assert fix.name == "rescale-residual-branches"
        assert fix.restarted
        assert (before.begin, before.end, after) == (0, fix.step, Stretch(fix.step, restarted=True))
        assert fix.step == 2  # found after step 0, when the pass of step 1 had been made

    def test_what_is_looked_at_in_the_first_step_alone_is_looked_at_again(self, mended_by_hand):
        report = mended_by_hand.report()
        assert "I006" not in [rule.code for rule in report.not_checked]
        assert "I006" not in report.codes()

    def test_enough_steps_are_watched_to_tell_whether_it_helped(self, mended_by_hand):
        begin = mended_by_hand.fixes[0].step
        assert set(range(begin, begin + WATCHED_AFTER)) <= set(mended_by_hand.session.trace.steps)


class TestSeveralStretches:
    """A network without any fault but one that only its start can show; the stretches are made up."""

    @pytest.fixture
    def record(self):
        run = unstuck.watch(every=1)
        by_hand(run, blocks(), steps=20)
        return run.session.trace

    def codes(self, record, *stretches: Stretch) -> tuple[list[str], list[str]]:
        findings, lacking, _ = judge_stretches(record, stretches, Config(select=("I006",)))
        return [finding.code for finding in findings], [rule.code for rule in lacking]

    def test_none_is_the_whole_run(self, record):
        assert self.codes(record) == (["I006"], [])

    def test_the_last_says_nothing_of_the_start_and_the_one_before_does(self, record):
        assert self.codes(record, Stretch(10)) == ([], ["I006"])
        assert self.codes(record, Stretch(0, 10), Stretch(10)) == (["I006"], [])
        assert self.codes(record, Stretch(0, 4), Stretch(4, 9), Stretch(9)) == (["I006"], [])

    def test_what_was_mended_since_is_not_held_against_the_run(self, record):
        settled = ("A002", "I006")
        assert self.codes(record, Stretch(0, 10, settled=settled), Stretch(10)) == ([], ["I006"])
        assert self.codes(record, Stretch(0, 4), Stretch(4, 9, settled=settled), Stretch(9)) == ([], ["I006"])

    def test_what_came_before_training_began_again_counts_for_nothing(self, record):
        assert self.codes(record, Stretch(0, 10), Stretch(10, restarted=True)) == ([], ["I006"])
        assert self.codes(record, Stretch(0, 4), Stretch(4, 9, restarted=True), Stretch(9)) == ([], ["I006"])

    def test_silenced_ones_stay_so(self, record):
        config = Config(select=("I006",), per_site_ignores={"*": ("I006",)})
        findings, lacking, silenced = judge_stretches(record, [Stretch(0, 10), Stretch(10)], config)
        assert (findings, lacking, [finding.code for finding in silenced]) == ((), (), ["I006"])


class TestBetween:
    def test_the_end_is_not_part_of_it(self):
        run = unstuck.watch(every=1)
        by_hand(run, blocks(2), steps=8)
        trace = run.session.trace
        assert Stretch(2, 5).of(trace).steps == [2, 3, 4]
        assert Stretch(2, 5, restarted=True).of(trace).steps == [0, 1, 2]
        assert Stretch(5).of(trace).steps == [5, 6, 7]


def test_the_batches_of_a_recalibration_are_not_taken_for_the_evaluation():
    """Of a pass without gradients only the script's own calls are looked at."""
    torch.manual_seed(0)
    net, other = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32)), nn.Sequential(nn.Linear(4, 32))
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with unstuck.watch(every=1) as run:
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(32, 4)).square().mean().backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            with torch._C.DisableTorchFunction():  # as unstuck's own work is done
                for _ in range(40):
                    other(torch.randn(32, 4))
            net(torch.randn(32, 4))
    seen = [site.op for site in run.session.trace.sites if site.kind.name == "EVALUATION"]
    assert seen == ["batch_norm"]


class TestOfARunThatGoesOn:
    """Gradients that fade in the first step alone, as a sigmoid network's may, are no reason to mend anything."""

    def run(self, steps: int) -> unstuck.Run:
        torch.manual_seed(0)
        layers = [part for _ in range(9) for part in (nn.Linear(16, 16), nn.Sigmoid())]
        net = nn.Sequential(*layers, nn.Linear(16, 2))
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with unstuck.watch(unsafe_fixes=True, select=["G001"]) as run:
            for _ in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(net(torch.randn(32, 16)), torch.randint(2, (32,))).backward()
                optimizer.step()
        return run

    @pytest.mark.parametrize("steps", [1, 4, 7])
    def test_it_is_left_alone_before_there_are_samples_enough(self, steps):
        run = self.run(steps)
        assert run.fixes == ()
        assert run.report().codes() == ["G001"]  # of a run that ended so, all there is to see

    def test_and_mended_then(self):
        assert {fix.step for fix in self.run(12).fixes} == {10}
