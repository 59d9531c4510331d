"""zero-dead-biases moves the thresholds of units that the data never crosses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck

NAME = "zero-dead-biases"


def batch(seed=0, n=400):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return x, torch.sin(2 * x[:, :1])


def network(offset, *, bias=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 32, bias=bias), nn.ReLU(), nn.Linear(32, 1))
    if bias:
        nn.init.zeros_(net[0].bias)
        net[0].bias.data[:12] = -offset
        net[0].bias.data[12:16] = offset
    return net


def train(net, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    for step in range(steps):
        x, y = batch(step)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def aside(net, x):
    z = net[0](x)
    return int(((z.amax(0) <= 0) | (z.amin(0) >= 0)).sum())


@pytest.mark.parametrize("net", [network(0.0), network(0.5), network(0.0, bias=False)], ids=["zero", "near", "none"])
def test_units_that_the_data_crosses_stay(net):
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 3)
    assert NAME not in {fix.name for fix in run.fixes}


@pytest.mark.parametrize("by_hand", [False, True])
def test_in_a_script_only_units_beside_the_data_move(by_hand):
    net, same = network(20.0), network(20.0)
    x, _ = batch(1)
    assert aside(net, x) == 16
    if by_hand:
        net[0].forward = lambda value: value @ net[0].weight.T + net[0].bias
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 2)
    (fix,) = [fix for fix in run.fixes if fix.name == NAME]
    assert (fix.code, fix.before, fix.after) == ("I007", 50.0, 0.0)
    assert aside(net, x) == 0
    assert (net[0].bias[:16].abs() < 2).all()
    torch.testing.assert_close(net[0].bias[16:], same[0].bias[16:], rtol=0, atol=0.05)


def test_before_training_it_is_proven():
    net = network(20.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    batches = [batch(seed) for seed in range(20)]
    report = unstuck.fix(net, batches, F.mse_loss, optimizer, unsafe=True, steps=100)
    (fix,) = [fix for fix in report.fixes if fix.name == NAME]
    assert fix.kept
    assert fix.proof.gone
    assert fix.proof.loss_after < fix.proof.loss_before
    assert aside(net, batches[0][0]) == 0
