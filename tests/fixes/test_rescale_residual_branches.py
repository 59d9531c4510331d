"""rescale-residual-branches multiplies the ends of all branches by 1/√(2·blocks), or less where they are large."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.fixes.rescale_residual_branches import factor_for

NAME = "rescale-residual-branches"
BLOCKS, WIDTH = 8, 24


class Block(nn.Module):
    def __init__(self, norm=None):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = norm or nn.Identity()
        for layer in (self.up, self.down):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


def network(norm=None, branch=1.0):
    torch.manual_seed(0)
    blocks = [Block(norm and norm(WIDTH)) for _ in range(BLOCKS)]
    for block in blocks:
        block.down.weight.data.mul_(branch)
    last = norm(WIDTH) if norm else nn.Identity()
    return nn.Sequential(nn.Linear(6, WIDTH), *blocks, last, nn.Linear(WIDTH, 1))


def batch(seed=0):
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :1] * x[:, 1:2]


def train(net, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    for step in range(steps):
        x, y = batch(step)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("net", [network(branch=0.25), network(norm=nn.LayerNorm)], ids=["scaled", "pre-norm"])
def test_streams_that_work_stay(net):
    before = [p.detach().clone() for p in net.parameters()]
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 1)
    assert NAME not in {fix.name for fix in run.fixes}
    assert all(abs(float((p.detach() - b).abs().max())) < 0.1 for p, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("growth", [0.5, 1.0, 2.0, math.sqrt(2) ** (BLOCKS - 1)])
def test_branches_no_larger_than_the_stream_get_the_usual_factor(growth):
    assert factor_for(growth, BLOCKS) == pytest.approx(1 / math.sqrt(2 * BLOCKS))


def test_branches_thrice_as_large_as_the_stream_get_a_third_of_the_usual_factor():
    assert factor_for(math.sqrt(10) ** (BLOCKS - 1), BLOCKS) == pytest.approx(1 / (3 * math.sqrt(2 * BLOCKS)))


def test_shared_branches_are_refused():
    net = network()
    for block in net[2 : BLOCKS + 1]:
        block.down.weight = net[1].down.weight
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 1)
    assert NAME not in {fix.name for fix in run.fixes}


def test_in_a_script_the_ends_alone_are_scaled_from_the_start():
    net, same = network(), network()
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 1)
    (fix,) = [fix for fix in run.fixes if fix.name == NAME]
    assert fix.code == "I006"
    factor = factor_for(fix.before, BLOCKS)
    assert factor < 1 / math.sqrt(2 * BLOCKS)
    assert len(fix.snippet.splitlines()) == 2 * BLOCKS
    for (name, now), was in zip(net.named_parameters(), same.parameters(), strict=True):
        expected = was * factor if ".down." in name else was
        torch.testing.assert_close(now, expected, rtol=1e-6, atol=0)


def test_the_stream_keeps_its_scale_and_the_fix_is_kept():
    net = network()
    x, _ = batch()
    grown = (net[: BLOCKS + 1](x).std() / net[:2](x).std()).item()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    report = unstuck.fix(net, [batch(s) for s in range(10)], F.mse_loss, optimizer, unsafe=True, steps=40)
    (fix,) = [fix for fix in report.fixes if fix.name == NAME]
    assert fix.kept
    assert (net[: BLOCKS + 1](x).std() / net[:2](x).std()).item() < 3 < grown


def test_branches_of_no_unit_scale_leave_a_stream_that_the_rule_has_nothing_against():
    net = network(branch=4.0)
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 1)
    (fix,) = [fix for fix in run.fixes if fix.name == NAME]
    x, _ = batch()
    assert fix.before > 1000
    assert (net[: BLOCKS + 1](x).std() / net[:2](x).std()).item() < 2
    with unstuck.watch() as again:
        train(net, 1)
    assert "I006" not in again.report().codes()
