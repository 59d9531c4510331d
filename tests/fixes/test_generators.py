"""Generators, and whatever else may happen between keeping a state and putting it back."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stateful import Net, X, everything, step
from torch import nn

from unstuck.fixes.state import Generators, Snapshot


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


class TestGenerators:
    def test_they_draw_the_same_again_and_again(self):
        kept = Generators()
        first = draw()
        for _ in range(2):
            kept.restore()
            assert draw() == first

    def test_a_snapshot_has_them(self):
        kept = Snapshot([])
        first = draw()
        kept.restore()
        assert draw() == first


MUTATIONS = {
    "train": lambda net, optimizer: step(net, optimizer),
    "evaluate": lambda net, optimizer: net.eval()(X),
    "freeze": lambda net, optimizer: net.body.requires_grad_(False),
    "thaw": lambda net, optimizer: net.requires_grad_(True),
    "clear": lambda net, optimizer: net.zero_grad(),
    "zero": lambda net, optimizer: net.wide.data.zero_(),
    "draw": lambda net, optimizer: draw(),
    "rate": lambda net, optimizer: optimizer.param_groups[0].update(lr=0.5),
    "forget": lambda net, optimizer: optimizer.state.clear(),
    "bias": lambda net, optimizer: setattr(net.head, "bias", None),
    "retie": lambda net, optimizer: setattr(net.body[3], "weight", nn.Parameter(torch.ones(4, 4))),
    "norm": lambda net, optimizer: net.body.append(nn.LayerNorm(4)),
    "wrap": lambda net, optimizer: setattr(net, "head", nn.Sequential(net.head)),
    "shrink": lambda net, optimizer: optimizer.param_groups[0]["params"].__delitem__(slice(1)),
    "count": lambda net, optimizer: setattr(net, "calls", net.calls + 10),
    "write": lambda net, optimizer: net.history.append(net.calls),
    "delete": lambda net, optimizer: vars(net).pop("name", None),
}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(sorted(MUTATIONS))), st.lists(st.sampled_from(sorted(MUTATIONS))))
def test_whatever_happens_before_and_after(earlier, later):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)

    for name in earlier:
        MUTATIONS[name](net, optimizer)
    before, kept = everything(net, optimizer), Snapshot([net], [optimizer])
    for name in later:
        MUTATIONS[name](net, optimizer)
    kept.restore()
    assert everything(net, optimizer) == before
