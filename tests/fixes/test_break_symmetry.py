"""break-symmetry draws equal units anew: before training, and in a script that trains."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.fixes.break_symmetry import draw

NAME = "break-symmetry"


def data(n=256, seed=0):
    x = torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0].abs() > 0.67).long()


def network(constant=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))
    nn.init.zeros_(net[0].bias)
    if constant:
        nn.init.constant_(net[0].weight, 0.1)
        net[2].weight.data.copy_(torch.tensor([[0.1], [-0.1]]).expand(2, 32))
    return net


def train(net, steps=30):
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(steps):
        x, y = data(seed=step)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class TestLeavesAlone:
    def test_units_that_differ(self):
        net = network(constant=False)
        report = unstuck.fix(net, data(), F.cross_entropy, unsafe=True, steps=40)
        assert NAME not in {fix.name for fix in report.fixes}

    def test_without_unsafe_it_is_only_offered(self):
        net = network()
        before = net[0].weight.detach().clone()
        report = unstuck.fix(net, data(), F.cross_entropy, unsafe=False, steps=40)
        assert torch.equal(net[0].weight, before)
        assert report.fixes == ()

    def test_loaded_weights(self):
        net = network()
        net.load_state_dict(net.state_dict())
        with unstuck.watch(unsafe_fixes=True, pretrained=True) as run:
            train(net, 12)
        assert NAME not in {fix.name for fix in run.fixes}
        assert (net[0].weight == net[0].weight[0]).all()

    @pytest.mark.parametrize(("fan_in", "gain"), [(0, 1.0), (3, 0.0), (3, -1.0)])
    def test_numbers_that_make_no_scale_change_nothing(self, fan_in, gain):
        weight = torch.ones(2, 3)
        with pytest.raises(ValueError, match=rf"^cannot draw weights for fan-in {fan_in} and gain {gain}$"):
            draw(weight, fan_in, gain, torch.Generator())
        assert torch.equal(weight, torch.ones(2, 3))


class TestBreaks:
    def test_before_training(self):
        net = network()
        batches, optimizer = [data(seed=s) for s in range(20)], torch.optim.Adam(net.parameters(), lr=1e-2)
        report = unstuck.fix(net, batches, F.cross_entropy, optimizer, unsafe=True, steps=150)
        (fix,) = [fix for fix in report.fixes if fix.name == NAME]
        assert fix.kept
        assert fix.proof.gone
        assert fix.proof.loss_after < fix.proof.loss_before
        assert len(net[0].weight.detach().unique(dim=0)) == 32
        assert net[0].weight.std().item() == pytest.approx(math.sqrt(2 / 12), rel=0.1)

    def test_in_a_script_that_trains_it_begins_anew(self):
        net = network()
        bias = net[2].bias.detach().clone()
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 1)
        (fix,) = [fix for fix in run.fixes if fix.name == NAME]
        assert (fix.code, fix.site, fix.step, fix.after) == ("I001", "0.weight", 1, 0.0)
        assert len(net[0].weight.detach().unique(dim=0)) == 32
        assert torch.equal(net[2].bias, bias), "the first update has been undone"
        assert (net[2].weight.abs() == 0.1).all()

    def test_the_same_numbers_each_time(self):
        drawn = []
        for seed in (1, 2):
            net = network()
            torch.manual_seed(seed)
            with unstuck.watch(unsafe_fixes=True):
                train(net, 1)
            drawn.append(net[0].weight.detach().clone())
        assert torch.equal(*drawn)
