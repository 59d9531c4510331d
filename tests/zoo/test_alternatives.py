"""Kaiming's and LSUV's weights, drawn in a script's first pass."""

import math
import sys

import pytest
import torch
from torch import nn
from zoo.alternatives import How, Initialiser, main, orthonormal, unit_variance

from unstuck.capture.session import Session


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3))
    for layer in net[::2]:
        nn.init.constant_(layer.weight, 7.0)
    return net


def first_pass(net, how, x):
    with Session(intervention=Initialiser(how)) as session:
        loss = nn.functional.cross_entropy(net(x), torch.zeros(len(x), dtype=torch.long))
        loss.backward()
    assert session.trace.facts.internal_error is None
    return loss.item()


X = torch.randn(512, 20, generator=torch.Generator().manual_seed(1))


def test_frozen_layers_and_shared_ones_stay():
    net = network()
    net[0].requires_grad_(False)
    net[4] = nn.Linear(64, 64)
    net[4].weight = net[2].weight
    first_pass(net, How.KAIMING, X)
    assert (net[0].weight == 7).all()
    assert (net[2].weight == 7).all()


def test_an_output_without_variance_is_left():
    weight, value = torch.ones(2, 2), torch.zeros(4, 2)
    assert unit_variance(weight, value, lambda: None) == 0
    assert torch.equal(weight, torch.ones(2, 2))


def test_kaiming_takes_the_gain_of_what_follows():
    net = network()
    loss = first_pass(net, How.KAIMING, X)
    gains = [layer.weight.std().item() * math.sqrt(layer.in_features) for layer in net[::2]]
    assert gains == pytest.approx([math.sqrt(2), 5 / 3, 1.0], rel=0.1)
    assert not any(layer.bias.any() for layer in net[::2])
    assert loss == pytest.approx(nn.functional.cross_entropy(net(X), torch.zeros(512, dtype=torch.long)).item())


def test_lsuv_gives_every_layer_unit_variance_and_orthogonal_rows():
    net = network()
    first_pass(net, How.LSUV, X)
    h = X
    for layer, function in zip(net[::2], (*net[1::2], nn.Identity()), strict=True):
        z = layer(h)
        assert z.var(correction=0).item() == pytest.approx(1.0, abs=0.1)
        h = function(z)
    gram = net[2].weight @ net[2].weight.T
    torch.testing.assert_close(gram, gram.diag().mean() * torch.eye(64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 2, 3, 3), (5,)])
def test_orthonormal(shape):
    drawn = orthonormal(torch.Size(shape), torch.Generator().manual_seed(0)).reshape(
        shape[0] if len(shape) > 1 else 1, -1
    )
    small = drawn @ drawn.T if drawn.shape[0] <= drawn.shape[1] else drawn.T @ drawn
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", list(How))
def test_a_script_prints_what_it_prints(tmp_path, capfd, how):
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\n"
        "w = torch.full((5, 4), 9.0, requires_grad=True)\n"
        "z = torch.ones(8, 5).cumsum(0) @ w\n"
        "z.tanh().sum().backward()\n"
        "print('units', len(w.T.unique(dim=0)))\n"
    )
    assert main([str(script), "--how", how]) == 0
    assert capfd.readouterr().out == "units 4\n"
    assert sys.modules["__main__"].__name__ == "__main__"
