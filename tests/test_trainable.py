"""`assert_trainable` with one step (see `test_api.py` as well) and with more."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.trainable import examine

X = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def network(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), activation(), nn.Linear(32, 3))


def test_what_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        unstuck.assert_trainable(network(), (X, Y), F.cross_entropy, steps=0)
    with pytest.raises(ValueError, match=r"batch must be a pair \(inputs, targets\)"):
        unstuck.assert_trainable(network(), X, F.cross_entropy, steps=5)


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_a_healthy_network_is_left_as_it_was(steps):
    model = network()
    before, state = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    unstuck.assert_trainable(model, (X, Y), F.cross_entropy, steps=steps)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert examine(model, (X, Y), F.cross_entropy, steps=steps).run.steps == steps


def test_several_batches_are_taken_in_turn():
    report = examine(network(), [(X[:32], Y[:32]), (X[32:], Y[32:])], F.cross_entropy, steps=6)
    losses = report.trace.objective
    assert len(losses) == 6
    assert losses[0] == pytest.approx(float(F.cross_entropy(network()(X[:32]), Y[:32]).detach()))
    assert losses[1] != losses[0]


def test_what_only_training_shows():
    """A learning rate is nothing that one pass could tell of."""
    model = network(nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 30.0)
    unstuck.assert_trainable(model, (X, Y), F.cross_entropy, optimizer=optimizer)
    with pytest.raises(AssertionError, match=r"^the network is not ready to train\n[\s\S]*U001 oversized-updates"):
        unstuck.assert_trainable(model, (X, Y), F.cross_entropy, optimizer=optimizer, steps=40)
    unstuck.assert_trainable(model, (X, Y), F.cross_entropy, optimizer=optimizer, steps=40, ignore=["U", "A", "L"])


def test_rules_can_be_chosen():
    model = network()
    nn.init.normal_(model[2].weight, std=10.0)
    with pytest.raises(AssertionError, match="L001"):
        unstuck.assert_trainable(model, (X, Y), F.cross_entropy)
    unstuck.assert_trainable(model, (X, Y), F.cross_entropy, select=["T"])
