"""Propose, apply, train on trial, keep or put back: with remedies and a judge made for the purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unstuck.capture.session import Session
from unstuck.findings import Finding, Severity
from unstuck.fixes import engine
from unstuck.fixes.engine import MAX_TRIALS, Repair, is_gone, is_worse, repair
from unstuck.fixes.fix import Applicability, Fix
from unstuck.fixes.remedy import Patient, Remedy, Withheld
from unstuck.fixes.task import Task, Training

STEPS = 20
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (32,), generator=torch.Generator().manual_seed(1))
SKEWED = torch.tensor([100.0, -100.0, 0.0])


def finding(
    code: str = "A001", site: str = "fc", fixes: Sequence[str] = ("mend",), explains: Sequence[str] = ()
) -> Finding:
    return Finding(
        code, "odd", Severity.WARNING, site, None, (0, 9), 2.0, 1.0, "1", "odd", (), tuple(fixes), tuple(explains)
    )  # fmt: skip


class Net(nn.Module):
    """A small network with `faults`, (code, site), that it tells the judge of."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.norm, self.head = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.drop = nn.Dropout(0.2)
        self.faults, self.scale, self.calls = list(faults), 1.0, 0
        self.raises_at = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.raises_at:
            raise RuntimeError("mine")
        return self.head(self.drop(self.norm(self.fc(x)).relu())) * self.scale


def mending(name: str, does: Callable[[Net, Finding], Any], **declared: Any) -> dict[str, type[Remedy]]:
    """A remedy that does something to a `Net`."""

    def apply(self: Remedy, patient: Patient, found: Finding) -> list[Fix]:
        (net,) = patient.models
        assert isinstance(net, Net)
        does(net, found)
        return [self.fix(found)]

    return {name: type(name, (Remedy,), {"name": name, "apply": apply, **declared})}


def take_away(net: Net, found: Finding) -> None:
    net.faults.remove((found.code, found.site))


def mend_and_spoil(net: Net, found: Finding) -> None:
    take_away(net, found)
    net.head.weight.data.mul_(100)
    net.norm.running_mean.fill_(3.0)
    net.fc = nn.Linear(6, 8)


@pytest.fixture
def made(monkeypatch) -> Callable[..., tuple[Net, Repair]]:
    """Repair a network with these faults by these remedies."""

    def run(
        net: Net,
        remedies: dict[str, type[Remedy]],
        *,
        unsafe: bool = True,
        pretrained: bool = False,
        steps: int = STEPS,
        causes: dict[str, tuple[str, ...]] | None = None,
        fixes: Sequence[str] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Repair:
        monkeypatch.setattr(engine, "all_remedies", lambda: remedies)
        task = Task(net, (X, Y), F.cross_entropy, optimizer, pretrained=pretrained)

        def judge(_trace: object) -> list[Finding]:
            offered = list(remedies) if fixes is None else fixes
            return [finding(code, site, offered, (causes or {}).get(code, ())) for code, site in net.faults]

        return repair(task, judge, unsafe=unsafe, steps=steps)

    return run


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


class TestSilent:
    def test_nothing_is_found(self, made):
        net = Net()
        before = bits(net)
        result = made(net, mending("mend", take_away))
        assert (result.fixes, result.withheld, result.available, list(result.findings)) == ([], [], [], [])
        assert result.after is result.before
        assert bits(net) == before
        assert net.calls == 0

    def test_nothing_is_offered(self, made):
        net = Net(("A001", "fc"))
        before = bits(net)
        result = made(net, mending("mend", take_away), fixes=())
        assert result.fixes == []
        assert bits(net) == before

    def test_a_remedy_for_a_person(self, made):
        net = Net(("A001", "fc"))
        result = made(net, mending("mend", take_away, applicability=Applicability.DISPLAY))
        assert (result.fixes, net.faults) == ([], [("A001", "fc")])

    def test_what_is_withheld_is_put_back_and_says_why(self, made):
        def refuse(net: Net, found: Finding) -> None:
            net.fc.weight.data.zero_()
            raise Withheld("no reason")

        net = Net(("A001", "fc"))
        before = bits(net)
        result = made(net, mending("mend", refuse))
        assert (result.fixes, result.withheld) == ([], ["mend at fc: no reason"])
        assert bits(net) == before

    def test_loaded_weights_are_mended_only_where_the_function_is_kept(self, made):
        net = Net(("A001", "fc"))
        result = made(net, mending("mend", take_away), pretrained=True)
        assert (result.fixes, result.withheld) == ([], ["mend at fc: the network has loaded weights"])
        assert made(net, mending("mend", take_away, applicability=Applicability.SAFE), pretrained=True).fixes[0].kept


class TestKept:
    def test_what_helps(self, made):
        def help_(net: Net, found: Finding) -> None:
            take_away(net, found)
            net.scale = 1.0

        net = Net(("A001", "fc"))
        net.scale = 30.0
        result = made(net, mending("mend", help_))
        (fix,) = result.fixes
        assert (fix.name, fix.code, fix.kept, fix.why) == ("mend", "A001", True, "")
        assert fix.proof is not None
        assert (fix.proof.steps, fix.proof.gone) == (STEPS, True)
        assert (fix.proof.loss_before, fix.proof.loss_after) == (result.before.loss, result.after.loss)
        assert fix.proof.loss_after < fix.proof.loss_before
        assert (net.scale, list(result.findings)) == (1.0, [])

    def test_what_leaves_the_loss_as_it_was(self, made):
        net = Net(("A001", "fc"))
        before = bits(net)
        assert made(net, mending("mend", take_away)).fixes[0].kept
        assert bits(net) == before  # trials leave nothing behind

    def test_one_remedy_after_another_each_against_the_last(self, made):
        def halve(net: Net, found: Finding) -> None:
            take_away(net, found)
            net.scale /= 5

        net = Net(("A001", "fc"), ("A002", "head"))
        net.scale = 50.0
        result = made(net, mending("mend", halve))
        one, two = result.fixes
        assert (one.kept, two.kept, net.scale) == (True, True, 2.0)
        assert one.proof.loss_after == two.proof.loss_before

    def test_changes_of_an_optimizer(self, made):
        net = Net(("A001", "fc"))
        optimizer = torch.optim.SGD(net.parameters(), 1e-6)

        def raise_rate(net: Net, found: Finding) -> None:
            take_away(net, found)
            optimizer.param_groups[0]["lr"] = 0.1

        assert made(net, mending("mend", raise_rate), optimizer=optimizer).fixes[0].kept
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert not optimizer.state

    def test_a_training_that_broke_cannot_become_worse(self, made):
        net = Net(("A001", "fc"))
        net.scale = math.inf
        result = made(net, mending("mend", take_away))
        assert result.before.broken
        assert result.fixes[0].kept
        assert result.fixes[0].proof.loss_before == math.inf


class TestPutBack:
    @pytest.mark.parametrize(
        ("does", "why", "gone"),
        [
            (mend_and_spoil, "the loss became worse", True),
            (lambda net, found: net.head.bias.data.copy_(SKEWED), "the loss became worse", False),
            (lambda net, found: net.head.weight.data.mul_(1.001), "A001 is still found", False),
        ],
    )
    @pytest.mark.parametrize("momentum", [None, 0.9])
    def test_bit_for_bit(self, made, does, why, gone, momentum):
        net = Net(("A001", "fc"))
        optimizer = None if momentum is None else torch.optim.SGD(net.parameters(), 0.01, momentum=momentum)
        before, layer = bits(net), net.fc
        result = made(net, mending("mend", does), optimizer=optimizer)
        (fix,) = result.fixes
        assert (fix.kept, fix.why, fix.proof.gone) == (False, why, gone)
        assert (bits(net), net.faults) == (before, [("A001", "fc")])
        assert net.fc is layer
        assert result.after is result.before

    def test_a_fault_that_only_has_another_name_now(self, made):
        def rename(net: Net, found: Finding) -> None:
            net.faults = [("A001", "fc.layer")]

        net = Net(("A001", "fc"))
        result = made(net, mending("mend", rename))
        assert [fix.why for fix in result.fixes] == ["A001 is still found"]
        assert net.faults == [("A001", "fc")]

    def test_training_that_breaks(self, made):
        def break_(net: Net, found: Finding) -> None:
            take_away(net, found)
            net.scale = math.nan

        net = Net(("A001", "fc"))
        (fix,) = made(net, mending("mend", break_)).fixes
        assert (fix.kept, fix.proof.loss_after, net.scale) == (False, math.inf, 1.0)

    def test_the_next_remedy_of_the_finding_is_tried(self, made):
        net = Net(("A001", "fc"))
        remedies = {**mending("first", mend_and_spoil), **mending("second", take_away)}
        assert [(fix.name, fix.kept) for fix in made(net, remedies).fixes] == [("first", False), ("second", True)]

    def test_none_is_tried_twice_at_a_place(self, made):
        net = Net(("A001", "fc"), ("A001", "head"))
        result = made(net, mending("mend", lambda net, found: None))
        assert [fix.site for fix in result.fixes] == ["fc", "head"]

    def test_training_that_raises_only_with_the_remedy(self, made):
        def another_width(net: Net, found: Finding) -> None:
            take_away(net, found)
            net.fc = nn.Linear(6, 9)

        net = Net(("A001", "fc"))
        before = bits(net)
        result = made(net, {**mending("first", another_width), **mending("second", take_away)})
        assert bits(net) == before
        assert [(fix.name, fix.kept) for fix in result.fixes] == [("second", True)]
        (text,) = result.withheld
        assert text.startswith("first at fc: training fails with it (")

    @pytest.mark.parametrize("rounds", [1, 2])
    @pytest.mark.parametrize(
        ("error", "where"),
        [(RuntimeError("mine"), "remedy"), (KeyboardInterrupt(), "remedy"), (KeyboardInterrupt(), "trial")],
    )
    def test_an_error_puts_back_even_what_was_kept(self, made, rounds, error, where):
        done: list[str] = []

        def raises(net: Net, found: Finding) -> None:
            take_away(net, found)
            net.head.weight.data.mul_(0.5)
            done.append(found.site)
            if len(done) == rounds and where == "remedy":
                raise error
            if len(done) == rounds:
                net.register_forward_pre_hook(interrupted)

        def interrupted(*_: object) -> None:
            raise error

        net = Net(("A001", "fc"), ("A002", "head"))
        before = bits(net)
        with pytest.raises(type(error)):
            made(net, mending("mend", raises))
        assert len(done) == rounds
        assert bits(net) == before
        assert net.faults == [("A001", "fc"), ("A002", "head")]


class TestOrder:
    def test_root_causes_first(self, made):
        net = Net(("A001", "fc"), ("I002", "head"), ("L001", "loss"))
        result = made(net, mending("mend", take_away), causes={"I002": ("A001",)})
        assert [fix.code for fix in result.fixes] == ["I002", "L001", "A001"]

    def test_what_follows_from_a_mended_root_needs_no_remedy(self, made):
        net = Net(("A001", "fc"), ("I002", "head"))
        result = made(net, mending("mend", lambda net, found: net.faults.clear()), causes={"I002": ("A001",)})
        assert [fix.code for fix in result.fixes] == ["I002"]

    def test_at_most_ten(self, made):
        net = Net(*(("A001", f"fc{k}") for k in range(15)))
        result = made(net, mending("mend", take_away), steps=1)
        assert len(result.fixes) == MAX_TRIALS == 10
        assert len(net.faults) == 5
        assert result.withheld == ["mend at fc10 and 4 more: not tried, 10 trials are the most"]

    def test_what_refuses_does_not_count(self, made):
        def refuse(net: Net, found: Finding) -> None:
            raise Withheld("no reason")

        net = Net(*(("A001", f"fc{k}") for k in range(12)), ("A002", "head"))
        result = made(net, {**mending("no", refuse), **mending("yes", lambda net, found: net.faults.clear())})
        assert [fix.name for fix in result.fixes] == ["yes"]
        net = Net(*(("A001", f"fc{k}") for k in range(12)))
        result = made(net, mending("no", refuse))
        assert (len(result.withheld), "not tried" in str(result.withheld)) == (12, False)

    def test_faults_that_a_remedy_brings_are_mended_as_well(self, made):
        def swap(net: Net, found: Finding) -> None:
            take_away(net, found)
            if found.code == "A001":
                net.faults.append(("A002", "head"))

        assert [f.code for f in made(Net(("A001", "fc")), mending("mend", swap)).fixes] == ["A001", "A002"]


class TestSafe:
    def test_unsafe_ones_are_named_once_and_not_tried(self, made):
        net = Net(("A001", "fc"), ("A001", "head"))
        before = bits(net)
        result = made(net, {**mending("mend", take_away), **mending("other", take_away)}, unsafe=False)
        assert (result.fixes, result.withheld, result.available) == ([], [], ["mend", "other"])
        assert bits(net) == before

    def test_safe_ones_are_tried(self, made):
        net = Net(("A001", "fc"))
        remedies = {
            **mending("unsafe", mend_and_spoil),
            **mending("safe", take_away, applicability=Applicability.SAFE),
        }
        result = made(net, remedies, unsafe=False)
        assert [(fix.name, fix.kept) for fix in result.fixes] == [("safe", True)]
        assert result.available == ["unsafe"]


def trial(*losses: float, one_batch: bool = False) -> Training:
    return Training(Session(), losses, not all(map(math.isfinite, losses)), one_batch)


class TestIsWorse:
    def test_equal_is_not(self):
        assert not is_worse(trial(*[1.0] * 20), trial(*[1.0] * 20))

    @pytest.mark.parametrize(("loss", "worse"), [(1.009, False), (1.011, True), (0.5, False), (math.nan, True)])
    def test_one_percent_may_be_rounding(self, loss, worse):
        assert is_worse(trial(*[1.0] * 20), trial(*[loss] * 20)) is worse

    def test_what_broke_before_cannot_be(self):
        assert not is_worse(trial(1.0, math.nan), trial(1.0, math.nan))
        assert not is_worse(trial(1.0, math.inf), trial(5.0, 5.0))

    @pytest.mark.parametrize(("shift", "worse"), [(0.0, False), (0.75, False), (0.78, True)])
    def test_noise_between_the_trials(self, shift, worse):
        """Differences of ±1 over 10 steps have a standard error of 1/3; 1 % of the loss comes on top of two of them."""
        after = trial(*(10.0 + shift + (-1) ** k for k in range(100)))
        assert is_worse(trial(*[10.0] * 100), after) is worse

    def test_a_batch_that_both_have_memorised(self):
        fast, slow = trial(1.0, *[0.01] * 19, one_batch=True), trial(1.0, *[0.1] * 19, one_batch=True)
        assert not is_worse(fast, slow)
        assert is_worse(fast, trial(1.0, *[0.3] * 19, one_batch=True))
        assert is_worse(trial(1.0, *[0.01] * 19), trial(1.0, *[0.1] * 19))


class TestIsGone:
    def test_only_where_no_place_is_left_for_it(self):
        at = {name: finding(site=name) for name in "abc"}
        other = finding("A002", "a")
        assert is_gone(at["a"], [at["a"]], [])
        assert is_gone(at["a"], [at["a"]], [other])
        assert is_gone(at["a"], [at["a"], at["b"]], [at["b"]])
        assert not is_gone(at["a"], [at["a"]], [at["a"]])
        assert not is_gone(at["a"], [at["a"]], [at["b"]])
        assert not is_gone(at["a"], [at["a"], at["b"]], [at["b"], at["c"]])
        assert not is_gone(at["a"], [at["a"], at["b"], at["c"]], [at["a"]])
