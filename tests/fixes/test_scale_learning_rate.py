"""The learning rate scaled by the update-to-data ratio."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

import unstuck
from unstuck.fixes.scale_learning_rate import Ratio, factor_for, rounded

NAME = "scale-learning-rate"
HOT = 0.2
Make = Callable[[nn.Module], Optimizer]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))


def hot(net: nn.Module) -> Optimizer:
    """Weight decay keeps the weights small, and so the updates large beside them."""
    return torch.optim.AdamW(net.parameters(), lr=HOT, betas=(0.9, 0.95), weight_decay=0.5)


def batch(g: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 16, generator=g)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] * x[:, 2] > 0).long()


def train(net: nn.Module, optimizer: Optimizer, steps: int = 150, each: Callable[[], None] = lambda: None) -> float:
    """Fresh batches; the mean loss of the last ten."""
    g, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x, y = batch(g)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        each()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def mended(net: nn.Module, optimizer: Optimizer, **options: object) -> tuple[float, unstuck.Run]:
    with unstuck.watch(unsafe_fixes=True, every=1, select=["U"]) as run:
        loss = train(net, optimizer, **options)
    assert run.session.trace.facts.internal_error is None
    return loss, run


class TestNumbers:
    @pytest.mark.parametrize(
        ("factor", "expected"),
        [(1.0, 1.0), (0.012, 0.01), (0.015, 0.02), (0.03, 0.02), (0.034, 0.05), (3.4, 5.0), (8.0, 10.0), (2e-7, 2e-7)],
    )
    def test_rounded_to_one_two_and_five(self, factor, expected):
        assert rounded(factor) == expected

    @pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
    def test_what_cannot_be_rounded(self, factor):
        with pytest.raises(ValueError, match="positive"):
            rounded(factor)

    def test_the_median_comes_to_the_target(self):
        ratios = [Ratio(value, 3e-2) for value in (0.04, 0.05, 0.06)]
        assert factor_for(ratios, smaller=True) == 0.1

    def test_unless_the_worst_stays_near_its_limit(self):
        ratios = [Ratio(value, 3e-2) for value in (0.01, 0.01, 0.75)]
        assert factor_for(ratios, smaller=True) == 0.02
        ratios = [Ratio(value, 3e-2) for value in (1e-8, 1e-8, 3e-6)]
        assert factor_for(ratios, smaller=False) == 1e4


class TestLeavesAlone:
    @pytest.mark.parametrize(
        "make",
        [
            lambda net: torch.optim.Adam(net.parameters(), lr=2e-3),
            lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
            lambda net: torch.optim.AdamW(net.parameters(), lr=1e-4),
        ],
    )
    def test_a_working_program(self, make):
        net = network()
        _, run = mended(net, make(net))
        assert run.fixes == ()
        assert run.report().withheld == ()

    def test_loaded_weights(self):
        net = network()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["U"], pretrained=True) as run:
            train(net, hot(net), 80)
        assert run.fixes == ()
        withheld = run.report().withheld
        assert withheld
        assert len(set(withheld)) == len(withheld)
        assert all(NAME in text and text.endswith(": the network has loaded weights") for text in withheld)

    def test_a_warm_up(self):
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-6 * 1.1 ** min(step, 145))
        _, run = mended(net, optimizer, each=schedule.step)
        assert run.fixes == ()

    def test_fix_alone_only_announces_it(self):
        net = network()
        optimizer = hot(net)
        with unstuck.watch(fix=True, every=1, select=["U"]) as run:
            train(net, optimizer, 60)
        assert run.fixes == ()
        assert any(NAME in text for text in run.report().withheld)

    def test_without_an_optimizer_the_factor_is_an_advice(self):
        net = network()
        g = torch.Generator().manual_seed(1)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["U"]) as run:
            for _ in range(60):
                x, y = batch(g)
                net.zero_grad()
                F.cross_entropy(net(x), y).backward()
                with torch.no_grad():
                    for p in net.parameters():
                        p -= 1e-6 * p.grad
        assert run.fixes == ()
        assert any("there is no optimizer; multiply the learning rate" in text for text in run.report().withheld)

    def test_an_optimizer_whose_rate_is_no_factor(self):
        net = network()
        optimizer = torch.optim.Rprop(net.parameters(), lr=0.5, step_sizes=(0.5, 50))
        _, run = mended(net, optimizer, steps=60)
        assert run.fixes == ()


class TestOversized:
    @pytest.mark.parametrize(
        "make",
        [
            hot,
            lambda net: torch.optim.SGD(net.parameters(), lr=5.0, momentum=0.9),
        ],
    )
    def test_it_trains_after_all(self, make: Make):
        plain = network()
        spoiled = train(plain, make(plain))
        net = network()
        optimizer = make(net)
        own = optimizer.param_groups[0]["lr"]
        loss, run = mended(net, optimizer)
        assert loss < 0.9 * spoiled
        assert {(fix.name, fix.code) for fix in run.fixes} == {(NAME, "U001")}
        assert run.report().findings == ()
        assert optimizer.param_groups[0]["lr"] == own  # between steps it is the program's own

    @pytest.mark.parametrize(
        ("make", "least", "most"),
        [
            (lambda net: torch.optim.AdamW(net.parameters(), lr=3.0), 2e-4, 5e-3),
            (lambda net: torch.optim.AdamW(net.parameters(), lr=30.0), 2e-4, 5e-3),
            (lambda net: torch.optim.SGD(net.parameters(), lr=50.0), 1e-2, 0.5),
        ],
    )
    def test_a_rate_that_blows_up_at_once_ends_in_a_useful_range(self, make: Make, least: float, most: float):
        torch.manual_seed(0)
        x, table = torch.randn(1500, 20), torch.randn(20, 5)
        y = (x @ table).argmax(1)
        net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
        optimizer = make(net)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["U"]) as run:
            for _ in range(400):
                some = torch.randint(0, 1500, (64,))
                optimizer.zero_grad()
                F.cross_entropy(net(x[some]), y[some]).backward()
                optimizer.step()
        assert least <= run.fixes[-1].after <= most
        assert F.cross_entropy(net(x), y).item() < 0.8

    def test_a_rate_that_has_become_too_small_is_raised_again(self):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=50.0)
        g = torch.Generator().manual_seed(1)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["U"]) as run:
            for _ in range(150):
                x, y = batch(g)
                net.zero_grad()
                F.cross_entropy(net(x), y).backward()
                if run.fixes:  # the gradients that the rate was found by were no measure
                    for p in net.parameters():
                        p.grad.mul_(1e-6)
                optimizer.step()
        lowered, raised = run.fixes
        assert (lowered.code, raised.code) == ("U001", "U002")
        assert (lowered.restarted, raised.restarted) == (True, False)
        assert lowered.after < lowered.before
        assert raised.before == pytest.approx(lowered.after)
        assert raised.after > 1e3 * raised.before

    def test_training_begins_again_from_its_start(self):
        net = network()
        start = [p.detach().clone() for p in net.parameters()]
        seen: list[float] = []

        def distance() -> None:
            seen.append(max(float((p.detach() - q).abs().max()) for p, q in zip(net.parameters(), start, strict=True)))

        _, run = mended(net, hot(net), each=distance)
        step = run.fixes[0].step
        assert run.fixes[0].restarted
        assert f"after step {step}, training began again" in " ".join(str(run.report()).split())
        assert seen[step - 2] > 1.0
        assert seen[step] < 0.02

    def test_the_record_has_the_numbers(self):
        net = network()
        _, run = mended(net, hot(net))
        fix = run.fixes[0]
        assert (fix.statistic, fix.site) == ("learning rate", "AdamW, parameter group 0")
        assert fix.before == HOT
        factor = fix.after / fix.before
        assert rounded(factor) == pytest.approx(factor)
        assert fix.snippet.startswith(f'optimizer.param_groups[0]["lr"] *= {factor:g}  #')
        lasting = f"# the optimizer's steps are multiplied by {factor:g} from here on; param_groups show your own rate"
        assert fix.snippet.splitlines()[1:] == [lasting]
        assert lasting in run.report().render(width=200)

    def test_the_factor_stays_when_the_watching_has_ended(self):
        net = network()
        optimizer = hot(net)
        mended(net, optimizer, steps=80)
        before = net[2].weight.detach().clone()
        x, y = batch(torch.Generator().manual_seed(2))
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == HOT
        assert 0 < float((net[2].weight.detach() - before).abs().max()) < 0.02

    def test_groups_within_the_limits_keep_their_rate_and_biases_follow(self):
        net = network()
        groups = [
            {"params": [net[0].weight], "lr": 1e-3},
            {"params": [net[2].weight, net[4].weight], "lr": 0.3},
            {"params": [net[0].bias, net[2].bias, net[4].bias], "lr": 0.3},
        ]
        _, run = mended(net, torch.optim.Adam(groups), steps=80)
        first = [fix for fix in run.fixes if fix.step == run.fixes[0].step]
        assert [fix.site for fix in first] == ["Adam, parameter group 1", "Adam, parameter group 2"]
        assert first[0].after == first[1].after

    def test_a_rate_that_goes_on_rising_is_scaled_again(self):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.04**step)
        _, run = mended(net, optimizer, steps=300, each=schedule.step)
        assert len({fix.step for fix in run.fixes}) >= 2

    def test_of_two_optimizers_the_one_at_fault(self):
        net = network()
        good = torch.optim.Adam(net[:2].parameters(), lr=1e-3)
        bad = torch.optim.SGD(net[2:].parameters(), lr=5.0)
        g = torch.Generator().manual_seed(1)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["U"]) as run:
            for _ in range(60):
                x, y = batch(g)
                net.zero_grad()
                F.cross_entropy(net(x), y).backward()
                good.step()
                bad.step()
        assert {fix.site for fix in run.fixes} == {"SGD, parameter group 0"}


class TestUndersized:
    def test_it_trains_after_all_and_keeps_what_it_has(self):
        plain = network()
        idle = train(plain, torch.optim.Adam(plain.parameters(), lr=1e-8))
        net = network()
        loss, run = mended(net, torch.optim.Adam(net.parameters(), lr=1e-8))
        assert loss < 0.8 * idle
        assert [fix.code for fix in run.fixes] == ["U002"]
        assert run.fixes[0].after > 1e3 * run.fixes[0].before

    def test_a_loss_divided_twice(self):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9)
        loss, run = mended(net, optimizer)
        assert [fix.code for fix in run.fixes] == ["U002"]
        assert loss < 1.3


class TestBeforeTraining:
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        g = torch.Generator().manual_seed(1)
        return [batch(g) for _ in range(60)]

    def test_the_group_itself_is_set_when_that_helps(self):
        net = network()
        optimizer = hot(net)
        report = unstuck.fix(net, self.batches(), F.cross_entropy, optimizer, unsafe=True, steps=60)
        kept = [fix for fix in report.fixes if fix.kept]
        assert {fix.name for fix in kept} == {NAME}
        assert optimizer.param_groups[0]["lr"] == pytest.approx(kept[-1].after)
        assert all(fix.proof is not None and fix.proof.loss_after < fix.proof.loss_before for fix in kept)
        assert not any("from here on" in fix.snippet for fix in kept)

    def test_under_a_scheduler_the_steps_are_scaled(self):
        net = network()
        optimizer = hot(net)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        report = unstuck.fix(net, self.batches(), F.cross_entropy, optimizer, unsafe=True, steps=60)
        kept = [fix for fix in report.fixes if fix.kept]
        assert f"multiplied by {kept[-1].after / HOT:g} from here on; param_groups show your" in kept[-1].snippet
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == HOT
        before = net[2].weight.detach().clone()
        x, y = self.batches()[0]
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        assert float((net[2].weight.detach() - before).abs().max()) < 0.02

    def test_without_unsafe_nothing_is_changed(self):
        net = network()
        optimizer = hot(net)
        report = unstuck.fix(net, self.batches(), F.cross_entropy, optimizer, steps=60)
        assert optimizer.param_groups[0]["lr"] == HOT
        assert any(NAME in text for text in report.withheld)

    def test_what_does_not_help_is_put_back(self):
        """Targets without any relation to the inputs: nothing lowers the loss of updates this small."""
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-8)
        g = torch.Generator().manual_seed(2)
        noise = [(torch.randn(64, 16, generator=g), torch.randint(4, (64,), generator=g)) for _ in range(60)]
        before = [p.detach().clone() for p in net.parameters()]
        report = unstuck.fix(net, noise, F.cross_entropy, optimizer, unsafe=True, steps=60)
        tried = [fix for fix in report.fixes if fix.name == NAME]
        assert tried
        if not tried[-1].kept:
            assert optimizer.param_groups[0]["lr"] == 1e-8
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
