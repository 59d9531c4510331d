"""Chains of layers are rescaled in a script's next pass, or in one before training."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck

NAME = "rescale-weights"
DEPTH, WIDTH = 8, 32


def batch(seed=0):
    x = torch.randn(128, WIDTH, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()


class Chain(nn.Module):
    """Layers before `function`, each followed by `after`; `std` is times gain / √fan_in."""

    def __init__(self, std, function=torch.relu, after=lambda h: h, depth=DEPTH):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, 2)
        self.function, self.after = function, after
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=std * math.sqrt(2 / WIDTH))
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        for layer in self.layers:
            x = self.after(self.function(layer(x)))
        return self.head(x)

    def stds(self, x):
        found = []
        for layer in self.layers:
            z = layer(x)
            found.append(z.std(correction=0).item())
            x = self.after(self.function(z))
        return found


def train(net, steps, *, by_hand=False, lr=1e-5):
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, lr=lr)
    for step in range(steps):
        x, y = batch(step)
        loss = F.cross_entropy(net(x), y)
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        if not by_hand:
            optimizer.step()
            continue
        for parameter in parameters:
            parameter.data -= lr * parameter.grad


def mended(run):
    return [fix for fix in run.fixes if fix.name == NAME]


class TestLeavesAlone:
    @pytest.mark.parametrize("function", [torch.relu, torch.tanh, F.gelu])
    def test_a_chain_that_keeps_its_scale(self, function):
        net = Chain(1.0, function)
        before = [p.detach().clone() for p in net.parameters()]
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 6, lr=0.0)
        assert mended(run) == []
        assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))

    def test_a_frozen_layer_of_a_chain(self):
        net = Chain(2.0)
        net.layers[3].requires_grad_(False)
        before = net.layers[3].weight.clone()
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 4)
        assert len(mended(run)) == DEPTH - 1
        assert torch.equal(net.layers[3].weight, before)

    def test_loaded_weights(self):
        net = Chain(2.0)
        with unstuck.watch(unsafe_fixes=True, pretrained=True) as run:
            train(net, 4)
        assert mended(run) == []


class TestMends:
    @pytest.mark.parametrize(
        ("code", "net"),
        [("I003", Chain(2.0)), ("I004", Chain(0.5)), ("I003", Chain(1.0, after=lambda h: 2.0 * h))],
        ids=["growing", "fading", "doubled"],
    )
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_every_layer_of_a_chain_gets_unit_outputs(self, code, net, by_hand):
        start = {name: value.clone() for name, value in net.state_dict().items()}
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 4, by_hand=by_hand)
        fixes = mended(run)
        assert {fix.code for fix in fixes} == {code}
        assert all(fix.after == pytest.approx(1.0, abs=1e-4) for fix in fixes)
        mended_on = batch(2 if by_hand else 1)[0]
        assert net.stds(mended_on) == pytest.approx([1.0] * DEPTH, abs=0.11)
        net.load_state_dict(start)

    def test_before_training_it_is_proven(self):
        net = Chain(0.4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
        report = unstuck.fix(net, [batch(s) for s in range(20)], F.cross_entropy, optimizer, unsafe=True, steps=100)
        fixes = [fix for fix in report.fixes if fix.name == NAME and fix.kept]
        assert len(fixes) == DEPTH
        assert all(fix.proof.gone for fix in fixes)
        assert fixes[0].proof.loss_after < fixes[0].proof.loss_before

    def test_a_slope_in_the_function_is_made_up_for(self):
        net = Chain(1.0, function=lambda z: torch.tanh(9.0 * z), depth=2)
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 1)
        assert [fix.code for fix in mended(run)] == ["A001", "A001"]
        assert net.stds(batch()[0]) == pytest.approx([1 / 9] * 2, rel=0.02)

    def test_gradients_that_sigmoids_take_away_come_back(self):
        net = Chain(0.7, function=torch.sigmoid, depth=6)
        nn.init.normal_(net.head.weight, std=0.1)
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 12)
        assert {fix.code for fix in mended(run)} == {"G001"}
        x, y = batch(10)
        F.cross_entropy(net(x), y).backward()
        first, last = net.layers[0].bias.grad.norm(), net.layers[-1].bias.grad.norm()
        assert float(first / last) > 0.1

    def test_gradients_that_sines_blow_up_are_evened(self):
        net = Chain(1.0, function=lambda z: torch.sin(4.0 * z), depth=6)
        nn.init.normal_(net.head.weight, std=0.1)
        x, y = batch()
        F.cross_entropy(net(x), y).backward()
        before = float(net.layers[0].bias.grad.norm() / net.layers[-1].bias.grad.norm())
        with unstuck.watch(unsafe_fixes=True) as run:
            train(net, 6)
        assert {fix.code for fix in mended(run)} == {"G002"}
        net.zero_grad()
        F.cross_entropy(net(x), y).backward()
        after = float(net.layers[0].bias.grad.norm() / net.layers[-1].bias.grad.norm())
        assert before > 100
        assert 0.1 < after < 10
