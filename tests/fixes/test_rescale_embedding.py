"""rescale-embedding scales a table, tied or not, and leaves its rows of zeros."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck

NAME = "rescale-embedding"
SYMBOLS, WIDTH = 40, 32


class Tied(nn.Module):
    def __init__(self, std):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(SYMBOLS, WIDTH)
        nn.init.normal_(self.tokens.weight, std=std)
        self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))

    def forward(self, x):
        return F.linear(self.body(self.tokens(x)), self.tokens.weight)


class First(nn.Module):
    def __init__(self, std):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(SYMBOLS, WIDTH, padding_idx=0)
        self.tokens.weight.data.mul_(std)
        self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, SYMBOLS))
        nn.init.normal_(self.body[0].weight, std=WIDTH**-0.5)
        nn.init.normal_(self.body[2].weight, std=0.01)

    def forward(self, x):
        return self.body(self.tokens(x))


def batch(seed=0):
    x = torch.randint(SYMBOLS, (128,), generator=torch.Generator().manual_seed(seed))
    return x, (x * 7 + 3) % SYMBOLS


def train(net, steps):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(steps):
        x, y = batch(step)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def rms(table):
    return table.detach().pow(2).mean().sqrt().item()


@pytest.mark.parametrize(("make", "std"), [(Tied, 0.02), (First, 1.0)])
def test_tables_of_usual_scale_stay(make, std):
    net = make(std)
    before = net.tokens.weight.detach().clone()
    report = unstuck.fix(net, batch(), F.cross_entropy, unsafe=True, steps=30)
    assert NAME not in {fix.name for fix in report.fixes}
    assert torch.equal(net.tokens.weight, before)


def test_a_frozen_table_stays():
    net = First(6.0)
    net.tokens.weight.requires_grad_(False)
    before = net.tokens.weight.clone()
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 2)
    assert torch.equal(net.tokens.weight, before)
    assert NAME not in {fix.name for fix in run.fixes}


def test_a_tied_table_gives_logits_of_unit_scale():
    net = Tied(1.0)
    with unstuck.watch(unsafe_fixes=True) as run:
        train(net, 1)
    (fix,) = [fix for fix in run.fixes if fix.name == NAME]
    assert rms(net.tokens.weight) == pytest.approx(WIDTH**-0.5, rel=1e-2)
    x, _ = batch()
    assert net(x).std().item() == pytest.approx(1.0, rel=0.2)
    assert fix.before == pytest.approx(1.0, rel=0.1)


def test_it_is_put_back_bit_for_bit_where_a_large_table_learns_faster():
    net = Tied(1.0)
    before = net.tokens.weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    report = unstuck.fix(net, [batch(s) for s in range(20)], F.cross_entropy, optimizer, unsafe=True, steps=60)
    (fix,) = [fix for fix in report.fixes if fix.name == NAME]
    assert (fix.kept, fix.why) == (False, "the loss became worse")
    assert torch.equal(net.tokens.weight, before)


def test_in_a_script_a_layer_that_saturates_is_mended_in_the_first_pass_and_the_table_not_as_well():
    net = First(6.0)
    start = net.tokens.weight.detach().clone()
    with unstuck.watch(unsafe_fixes=True, ignore=["L"]) as run:
        train(net, 6)
    assert [(fix.name, fix.code) for fix in run.fixes] == [("rescale-weights", "A001")]
    assert run.fixes[0].after == pytest.approx(1.0)
    assert (net.tokens.weight - start).abs().max() < 0.1, "six steps of training"
