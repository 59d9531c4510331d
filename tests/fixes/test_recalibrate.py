"""Running statistics measured anew: pooled moments, nothing else changed; in flight before each evaluation."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.findings import Finding, Severity
from unstuck.fixes.fix import Applicability
from unstuck.fixes.recalibrate import KEPT_BATCHES, RecalibrateRunningStatistics, norms_of, recalibrate
from unstuck.fixes.remedy import Patient, Withheld
from unstuck.fixes.task import Task


class Net(nn.Module):
    """Two norms with dropout before, between and behind them; counts and may raise."""

    def __init__(self, **norm: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.drop = nn.Dropout(0.5)
        self.conv, self.norm1 = nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, **norm)
        self.fc, self.norm2 = nn.Linear(4, 5), nn.BatchNorm1d(5, **norm)
        self.raises_at, self.calls = 0, 0

    def forward(self, x: Tensor, shift: float = 0.0) -> Tensor:
        self.calls += 1
        if self.calls == self.raises_at:
            raise RuntimeError("mine")
        h = self.norm1(self.conv(self.drop(x))).relu().mean(2)
        return self.drop(self.norm2(input=self.fc(h) + shift))


def test_a_bare_tensor_is_refused_and_nothing_is_changed():
    net = Net()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"^batches must be an iterable of batches, got a tensor of shape \(8, 2, 6\)"):
        recalibrate(net, torch.randn(8, 2, 6))
    assert net.calls == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.fixture
def batches() -> list[Tensor]:
    """Batches of different sizes and means."""
    g = torch.Generator().manual_seed(1)
    return [3.0 + k + (1 + k) * torch.randn(n, 2, 6, generator=g) for k, n in enumerate((8, 5, 11, 2))]


def naive(net: Net, batches: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean and unbiased variance of each norm's inputs, all rows together, in float64 by definition."""
    first, second = [], []
    for x in batches:
        made = F.conv1d(x, net.conv.weight, net.conv.bias)
        first.append(made)
        normed = F.batch_norm(made, None, None, net.norm1.weight, net.norm1.bias, training=True, eps=net.norm1.eps)
        second.append(net.fc(normed.relu().mean(2)))
    rows = [torch.cat([f.transpose(1, 2).flatten(0, 1) for f in first]), torch.cat(second)]
    return [(r.double().mean(0), r.double().var(0, unbiased=True)) for r in rows]


def check_statistics(net: Net, batches: list[Tensor]) -> None:
    for norm, (mean, variance) in zip(norms_of(net), naive(net, batches), strict=True):
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-6, atol=0)


def rest(net: Net) -> list[Any]:
    """Everything but running means and variances."""
    return [
        {k: v.tolist() for k, v in net.state_dict().items() if not k.endswith(("running_mean", "running_var"))},
        [module.training for module in net.modules()],
        [len(module._forward_pre_hooks) for module in net.modules()],
        [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        [(norm.momentum, norm.track_running_stats) for norm in net.modules() if isinstance(norm, nn.BatchNorm1d)],
        (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
    ]


class TestRefused:
    def test_no_batches(self):
        net = Net()
        before, statistics = rest(net), net.norm1.running_mean.clone()
        with pytest.raises(ValueError, match=r"^recalibration needs at least one batch of inputs$"):
            recalibrate(net, [])
        assert rest(net) == before
        assert torch.equal(net.norm1.running_mean, statistics)

    @pytest.mark.parametrize("where", ["model", "batches"])
    def test_what_raises_leaves_everything(self, batches, where):
        net = Net().train()
        net.fc.eval()
        net(torch.randn(4, 2, 6))
        statistics = [(n.running_mean.clone(), n.running_var.clone()) for n in norms_of(net)]
        before, net.calls = rest(net), 0
        net.raises_at = 2 if where == "model" else 0

        def broken() -> Iterator[Tensor]:
            yield from batches[:2]
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match=r"^mine$"):
            recalibrate(net, broken())
        assert rest(net) == before
        for norm, (mean, variance) in zip(norms_of(net), statistics, strict=True):
            assert torch.equal(norm.running_mean, mean)
            assert torch.equal(norm.running_var, variance)

    def test_a_norm_without_running_statistics_is_left_out(self, batches):
        net = Net()
        net.norm1 = nn.BatchNorm1d(4, track_running_stats=False)
        assert norms_of(net) == [net.norm2]
        assert recalibrate(net, batches) == 1
        assert net.norm1.running_mean is None
        assert recalibrate(nn.Linear(2, 2), [torch.zeros(1, 2)]) == 0

    def test_a_norm_that_is_not_called_keeps_what_it_has(self, batches):
        net = Net()
        net.unused = nn.BatchNorm1d(3)
        net.unused.running_mean.fill_(7.0)
        recalibrate(net, batches)
        assert net.unused.running_mean.tolist() == [7, 7, 7]
        assert net.unused.running_var.tolist() == [1, 1, 1]


class TestMoments:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("momentum", [0.1, None, 1.0])
    def test_they_are_those_of_all_rows_together(self, batches, momentum, training):
        net = Net(momentum=momentum).train(training)
        before = rest(net)
        assert recalibrate(net, batches) == 2
        check_statistics(net, batches)
        assert rest(net) == before

    def test_in_float64(self, batches):
        net = Net().double()
        doubled = [x.double() for x in batches]
        recalibrate(net, doubled)
        for norm, (mean, variance) in zip(norms_of(net), naive(net, doubled), strict=True):
            torch.testing.assert_close(norm.running_mean, mean, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(norm.running_var, variance, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("training", [True, False])
    def test_what_was_there_before_makes_no_difference(self, batches, training):
        one, other = Net(), Net().train(training)
        for norm in norms_of(other):
            norm.running_mean.fill_(1e3)
            norm.running_var.fill_(1e-9)
        recalibrate(one, batches)
        recalibrate(other, batches)
        for a, b in zip(norms_of(one), norms_of(other), strict=True):
            torch.testing.assert_close(a.running_mean, b.running_mean)
            torch.testing.assert_close(a.running_var, b.running_var)

    def test_large_means_cost_no_digits(self):
        norm = nn.BatchNorm1d(1)
        x = 1e4 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        recalibrate(norm, [x[:500], x[500:]])
        assert norm.running_var.item() == pytest.approx(x.double().var().item(), rel=1e-6)

    def test_batches_of_images_as_torch_does_it(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None))
        twin, batches = copy.deepcopy(net), [torch.randn(16, 3, 8, 8) for _ in range(3)]
        recalibrate(net, batches)
        torch.optim.swa_utils.update_bn(batches, twin)
        torch.testing.assert_close(net[1].running_mean, twin[1].running_mean)
        torch.testing.assert_close(net[1].running_var, twin[1].running_var, rtol=0.02, atol=0)  # it averages variances

    @pytest.mark.parametrize("form", [lambda x: (x, 2.0), lambda x: [x, 2.0], lambda x: {"shift": 2.0, "x": x}])
    def test_inputs_that_are_several(self, batches, form: Callable[[Tensor], Any]):
        net, plain = Net(), Net()
        recalibrate(net, [form(x) for x in batches])
        recalibrate(plain, batches)
        torch.testing.assert_close(net.norm2.running_mean, plain.norm2.running_mean + 2)

    def test_a_call_of_ones_own(self, batches):
        net = Net()
        recalibrate(net, iter(enumerate(batches)), forward=lambda pair: net(pair[1]))
        check_statistics(net, batches)

    def test_under_inference_mode_and_afterwards_it_still_trains(self, batches):
        net = Net()
        with torch.inference_mode():
            recalibrate(net, batches)
        check_statistics(net, batches)
        net(batches[0]).sum().backward()

    def test_it_is_public(self):
        assert unstuck.recalibrate is recalibrate


def stale() -> Finding:
    return Finding(
        "N003", "stale-running-stats", Severity.WARNING, "norm1 (batch_norm)", None, (0, 9), 1.0, 0.1, "nats", "stale"
    )


class TestRemedy:
    def test_refused_without_a_norm(self):
        task = Task(nn.Linear(6, 2), (torch.randn(8, 6), torch.randn(8, 2)), F.mse_loss)
        patient = Patient(task.first_pass(), [task.model], (), task.batches, task.forward)
        with pytest.raises(Withheld, match=r"^no module with batch normalisation is known$"):
            RecalibrateRunningStatistics().apply(patient, stale())

    def test_where_data_is_at_hand_it_is_done_at_once(self, batches):
        net = Net()
        task = Task(net, [(x, torch.zeros(len(x), 5)) for x in batches], F.mse_loss, limit=9)
        patient = Patient(task.first_pass(), [net], (), task.batches, task.forward)
        (fix,) = RecalibrateRunningStatistics().apply(patient, stale())
        check_statistics(net, batches)
        assert (fix.name, fix.applicability) == ("recalibrate-running-statistics", Applicability.SAFE)
        assert (fix.before, fix.after, fix.unit) == (1.0, None, "nats")


class Forecaster(nn.Module):
    def __init__(self, *, moody: bool = False) -> None:
        super().__init__()
        self.fc, self.norm, self.head = nn.Linear(4, 32, bias=False), nn.BatchNorm1d(32), nn.Linear(32, 1)
        self.moody, self.times = moody, 0

    def forward(self, x: Tensor) -> Tensor:
        self.times += 1
        if self.moody and not self.training and self.norm.training:
            raise RuntimeError("not in this mode")
        return self.head(self.norm(self.fc(x)).relu())


def average(*, copy_buffers: bool = False, keyword: bool = False, moody: bool = False, **watching: bool) -> Any:
    """Train on data far from mean 0, evaluate averaged weights now and then; the run and the last losses."""
    torch.manual_seed(0)
    model, mean = Forecaster(), Forecaster(moody=moody).eval()
    mean.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    g = torch.Generator().manual_seed(1)
    x_test = 3 + torch.randn(200, 4, generator=g)
    losses = []
    with unstuck.watch(every=1, **watching) as run:
        for step in range(60):
            x = 3 + torch.randn(64, 4, generator=g)
            loss = F.mse_loss(model(x=x) if keyword else model(x), x.sum(1, keepdim=True) / 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            with torch.no_grad():
                for kept, new in zip(mean.parameters(), model.parameters(), strict=True):
                    kept.lerp_(new, 0.2)
                for kept, new in zip(mean.buffers(), model.buffers(), strict=True) if copy_buffers else ():
                    kept.copy_(new)
            if step % 5 == 4:
                with torch.no_grad():
                    tested = F.mse_loss(mean(x_test), x_test.sum(1, keepdim=True) / 4).item()
    assert run.session.trace.facts.internal_error is None
    return run, losses, tested, mean


class TestInFlight:
    def test_silent_where_buffers_are_copied(self):
        plain = average(copy_buffers=True)
        run, losses, tested, _ = average(copy_buffers=True, fix=True)
        assert run.fixes == ()
        assert (losses, tested) == plain[1:3]

    def test_not_without_being_asked(self):
        run, _, _, mean = average()
        assert "N003" in run.report().codes()
        assert run.fixes == ()
        assert mean.norm.running_mean.eq(0).all()

    def test_initial_statistics_are_measured_before_each_evaluation(self):
        _, losses_before, before, _ = average()
        run, losses, after, mean = average(fix=True)
        _, _, copied, _ = average(copy_buffers=True)
        assert [(fix.code, fix.name) for fix in run.fixes] == [("N003", "recalibrate-running-statistics")]
        assert run.fixes[0].step > 0
        assert after < copied + 0.2 * (before - copied)
        assert losses == losses_before  # the training is the same to the last bit
        assert not mean.norm.running_mean.eq(0).any()
        assert "N003" not in run.report().codes()

    def test_nothing_stays_behind(self):
        _, _, _, mean = average(fix=True)
        statistics = mean.norm.running_mean.clone()
        assert not torch.nn.modules.module._global_forward_pre_hooks
        with torch.no_grad():
            mean(torch.randn(8, 4))
        assert torch.equal(mean.norm.running_mean, statistics)

    def test_keyword_arguments_are_not_seen_and_nothing_is_recalibrated(self):
        _, losses, tested, mean = average(keyword=True, fix=True)
        assert (losses, tested) == average(keyword=True)[1:3]
        assert mean.norm.running_mean.eq(0).all()

    def test_a_network_that_cannot_be_called_so_is_left_alone(self, capsys):
        _, losses, tested, mean = average(moody=True, fix=True)
        assert (losses, tested) == average(moody=True)[1:3]
        assert mean.norm.running_mean.eq(0).all()
        assert capsys.readouterr().err.splitlines() == [
            "unstuck: recalibrate-running-statistics: Forecaster cannot be called on a batch again, so its running "
            "statistics stay as they are (RuntimeError: not in this mode)"
        ]

    def test_the_last_batches_of_training_are_kept(self):
        from unstuck.fixes.recalibrate import BeforeEvaluation

        net, seen = nn.BatchNorm1d(1), [torch.full((2, 1), float(k)) + torch.tensor([[0.0], [1.0]]) for k in range(40)]
        evaluated = copy.deepcopy(net).eval()
        end = BeforeEvaluation([net]).install()
        try:
            for x in seen:
                net(x)
            with torch.no_grad():
                evaluated(seen[0])
                last = torch.cat(seen[-KEPT_BATCHES:])
                assert evaluated.running_mean.item() == pytest.approx(last.mean().item())
                evaluated.running_mean.fill_(0.0)
                evaluated(seen[0])
                assert evaluated.running_mean.item() == 0.0  # once for each step of training
            net(seen[0])
            with torch.enable_grad():
                evaluated(seen[0])
            assert evaluated.running_mean.item() == 0.0  # with gradients it is not an evaluation
            with torch.inference_mode():
                evaluated(seen[0])
            assert evaluated.running_mean.item() != 0.0
        finally:
            end()
