"""`unstuck.fix`: the public function, on small networks of its own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unstuck

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (32,), generator=torch.Generator().manual_seed(1))


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def naive_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=4.0)
    return net


def healthy_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


class TestPublic:
    @pytest.mark.parametrize("steps", [0, -1])
    def test_less_than_a_step(self, steps):
        with pytest.raises(ValueError, match=rf"^steps must be at least 1, got {steps}$"):
            unstuck.fix(healthy_net(), (X, Y), F.cross_entropy, steps=steps)

    def test_no_pairs(self):
        with pytest.raises(
            ValueError, match=r"^batch must be a pair \(inputs, targets\), or an iterable of such pairs"
        ):
            unstuck.fix(healthy_net(), X, F.cross_entropy)

    @pytest.mark.parametrize("unsafe", [True, False])
    @pytest.mark.parametrize("optimizer", [None, torch.optim.Adam])
    def test_a_healthy_network_stays_as_it_is(self, unsafe, optimizer):
        net = healthy_net()
        optimizer = optimizer and optimizer(net.parameters(), lr=1e-3)
        before, drawn = bits(net), torch.get_rng_state()
        report = unstuck.fix(net, (X, Y), F.cross_entropy, optimizer, unsafe=unsafe, steps=60)
        assert (report.fixes, report.withheld) == ((), ())
        assert bits(net) == before
        assert torch.equal(torch.get_rng_state(), drawn)
        assert all(p.grad is None for p in net.parameters())
        assert optimizer is None or not optimizer.state

    def test_unsafe_ones_are_announced_by_one_line(self):
        net = naive_net()
        before = bits(net)
        report = unstuck.fix(net, (X, Y), F.cross_entropy, steps=40)
        assert report.fixes == ()
        (line,) = report.withheld
        assert line.endswith(": only with --unsafe-fixes (unsafe=True), for they change the training")
        assert "rescale-weights" in line
        assert f"not mended: {line}" in str(report)
        assert bits(net) == before

    def test_loaded_weights_are_left(self):
        net = naive_net()
        before = bits(net)
        report = unstuck.fix(net, (X, Y), F.cross_entropy, unsafe=True, pretrained=True, steps=40)
        assert not any(fix.kept and fix.name == "rescale-weights" for fix in report.fixes)
        assert bits(net) == before

    @pytest.mark.parametrize(
        "batches",
        [
            lambda: (X, Y),
            lambda: [(X[:16], Y[:16]), (X[16:], Y[16:])],
            lambda: DataLoader(TensorDataset(X, Y), batch_size=8),
            lambda: ((X, Y) for _ in range(10**9)),
        ],
    )
    def test_one_batch_or_many(self, batches):
        net = naive_net()
        report = unstuck.fix(net, batches(), F.cross_entropy, unsafe=True, steps=40)
        assert "rescale-weights" in {fix.name for fix in report.fixes if fix.kept}
        assert all(fix.proof is not None and fix.proof.steps == 40 for fix in report.fixes)
        assert report.run.steps == 40
        assert "mended before the first step:" in str(report)

    def test_twice_the_same(self):
        reports = [unstuck.fix(naive_net(), (X, Y), F.cross_entropy, unsafe=True, steps=40) for _ in range(2)]
        assert reports[0].fixes == reports[1].fixes

    def test_the_report_is_of_the_trial_that_followed(self):
        net = naive_net()
        report = unstuck.fix(net, (X, Y), F.cross_entropy, unsafe=True, steps=40)
        last = [fix for fix in report.fixes if fix.kept][-1]
        losses = list(report.trace.objective.values())[-4:]
        assert last.proof.loss_after == pytest.approx(sum(losses) / len(losses), rel=1e-5)

    def test_a_copy_is_mended_like_the_original(self):
        net, twin = naive_net(), copy.deepcopy(naive_net())
        for model in (net, twin):
            unstuck.fix(model, (X, Y), F.cross_entropy, unsafe=True, steps=40)
        assert bits(net) == bits(twin)
