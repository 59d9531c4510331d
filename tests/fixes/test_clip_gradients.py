"""Gradients clipped by their global norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unstuck
from unstuck.fixes.clip_gradients import bound_for

NAME = "clip-gradients"
EXPLODES = 0.1


def recurrent() -> nn.ModuleList:
    torch.manual_seed(0)
    rnn, head = nn.RNN(2, 48, batch_first=True), nn.Linear(48, 1)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    rnn.weight_hh_l0.data *= 1.1
    return nn.ModuleList([rnn, head])


def adding(g: torch.Generator, length: int = 20) -> tuple[Tensor, Tensor]:
    """The sum of two marked numbers of a sequence."""
    x, marks = torch.rand(64, length, generator=g), torch.zeros(64, length)
    for low in (0, length // 2):
        marks[torch.arange(64), torch.randint(low, low + length // 2, (64,), generator=g)] = 1
    return torch.stack([x, marks], -1), (x * marks).sum(1, keepdim=True)


def train(net: nn.ModuleList, optimizer: torch.optim.Optimizer, steps: int, clip: float = 0.0) -> float:
    g, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x, y = adding(g)
        loss = F.mse_loss(net[1](net[0](x)[0][:, -1]), y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


def sgd(net: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)


@pytest.mark.parametrize(
    ("norms", "bound"), [([1.0, 1.0, 900.0], 1.0), ([0.018, 0.02, 0.03], 0.02), ([3.0, 3.4, 4.0], 5.0)]
)
def test_the_bound_is_the_median_rounded(norms, bound):
    assert bound_for(norms) == bound


class TestLeavesAlone:
    def test_a_working_program(self):
        net = recurrent()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L"]) as run:
            train(net, sgd(net, 1e-3), 120)
        assert run.fixes == ()

    def test_a_program_that_clips(self):
        net = recurrent()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L"]) as run:
            train(net, sgd(net, EXPLODES), 120, clip=0.5)
        assert NAME not in {fix.name for fix in run.fixes}

    def test_a_loss_that_is_nan_for_another_reason(self):
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        g = torch.Generator().manual_seed(0)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L"]) as run:
            for step in range(60):
                x = torch.randn(16, 4, generator=g)
                loss = net(x).square().mean() * (float("nan") if step == 30 else 1.0)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        assert {finding.code for finding in run.report().findings} >= {"L011"}
        assert NAME not in {fix.name for fix in run.fixes}

    def test_outliers_in_the_data_are_gone_with_their_batch(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        g = torch.Generator().manual_seed(0)
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L"]) as run:
            for step in range(200):
                x = torch.randn(32, 4, generator=g)
                y = x[:, :1] * x[:, 1:2] + (90.0 if step % 37 == 36 else 0.0)
                loss = F.mse_loss(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        spikes = [finding for finding in run.report().findings if finding.code == "L014"]
        assert [finding.fixes for finding in spikes] in ([], [()])
        assert run.fixes == ()


class TestClips:
    def linear(self, run_optimizer: bool) -> tuple[nn.Module, torch.optim.Optimizer, float]:
        """Every sixtieth batch is a million times too large; all but the first come after the repair."""
        torch.manual_seed(0)
        net = nn.Linear(4, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        g, losses = torch.Generator().manual_seed(0), []
        for step in range(200):
            x = torch.randn(32, 4, generator=g)
            y = x.sum(1, keepdim=True) + 0.1 * torch.randn(32, 1, generator=g)
            x = x * (1e6 if step % 60 == 30 else 1.0)
            loss = F.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            if run_optimizer:
                optimizer.step()
            else:
                with torch.no_grad():
                    for p in net.parameters():
                        p -= 0.05 * p.grad
            losses.append(loss.item())
        return net, optimizer, sum(losses[-10:]) / 10

    def test_an_explosion_is_undone_and_held_off(self):
        _, _, loss = self.linear(run_optimizer=True)
        assert not loss < 1e6
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L011"]) as run:
            net, optimizer, loss = self.linear(run_optimizer=True)
        assert [(fix.name, fix.code) for fix in run.fixes] == [(NAME, "L011")]
        assert loss < 0.1
        bound = run.fixes[0].after
        assert run.fixes[0].snippet.startswith(f"torch.nn.utils.clip_grad_norm_(model.parameters(), {bound:g})")
        assert run.report().findings == ()
        before = [p.detach().clone() for p in net.parameters()]
        for p in net.parameters():
            p.grad = torch.full_like(p, 1e3)
        optimizer.step()
        moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(net.parameters(), before, strict=True)])
        assert float(moved.norm()) == pytest.approx(0.05 * bound, rel=1e-3)

    def test_without_an_optimizer_the_bound_is_an_advice(self):
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L011"]) as run:
            self.linear(run_optimizer=False)
        assert run.fixes == ()
        assert any("no optimizer; clip to" in text for text in run.report().withheld)

    def test_a_loss_that_grew_from_the_first_updates_on_has_no_usual_norm(self):
        net = recurrent()
        with unstuck.watch(unsafe_fixes=True, every=1, select=["L011"]) as run:
            train(net, sgd(net, 0.3), 60)
        assert {finding.code for finding in run.report().findings} == {"L011"}
        assert run.fixes == ()
