"""The lines to copy are Python, in networks of any form, and do what the fix did."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unstuck
from unstuck.fixes import snippet
from unstuck.trace import Trace

WIDTH, CLASSES = 32, 5


class Tree(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.body = nn.ModuleDict({f"part{n}": layer for n, layer in enumerate(layers[:-1])})
        self.head = layers[-1]

    def forward(self, x):
        for layer in self.body.values():
            x = layer(x)
        return self.head(x)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = linear(WIDTH, WIDTH, 2.0), linear(WIDTH, WIDTH, 2.0)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


def linear(fan_in, units, gain=1.0):
    layer = nn.Linear(fan_in, units)
    nn.init.normal_(layer.weight, std=gain * fan_in**-0.5)
    return layer


def offset(layer, shift, units=WIDTH):
    layer.bias.data[:units] = shift
    return layer


def layers(fault):
    torch.manual_seed(0)
    first, last = linear(6, WIDTH, math.sqrt(2)), linear(WIDTH, CLASSES, 0.1)
    if fault == "unscaled":
        nn.init.normal_(first.weight)
        first.weight.data.mul_(3)
        nn.init.normal_(last.weight)
        return [first, nn.Tanh(), last]
    if fault == "dead":
        return [offset(first, -50.0, 12), nn.ReLU(), last]
    if fault == "alike":
        nn.init.constant_(first.weight, 0.1)
        nn.init.zeros_(first.bias)
        last.weight.data.copy_(torch.linspace(-0.1, 0.1, CLASSES)[:, None].expand(CLASSES, WIDTH))
        return [first, nn.Tanh(), last]
    if fault == "residual":
        return [first, *(Residual() for _ in range(6)), last]
    return [first, nn.BatchNorm1d(WIDTH), nn.ReLU(), last]


NAMES = {
    "unscaled": {"rescale-weights", "shrink-output-layer"},
    "dead": {"zero-dead-biases"},
    "alike": {"break-symmetry"},
    "residual": {"rescale-residual-branches"},
    "normed": {"fold-bias-into-norm"},
}


def raw(made):
    """Return the network's function by tensors that no module holds, which are variables `w1`, `b1`, `w2` and `b2`."""
    w1, b1, w2, b2 = (p.detach().clone().requires_grad_() for layer in (made[0], made[-1]) for p in layer.parameters())
    function = torch.relu if isinstance(made[1], nn.ReLU) else torch.tanh

    def forward(x):
        return function(x @ w1.T + b1) @ w2.T + b2

    return forward, [w1, b1, w2, b2]


def mended(forward, parameters, steps=6):
    optimizer = torch.optim.SGD(parameters, lr=1e-9)
    with unstuck.watch(unsafe_fixes=True) as run:
        for step in range(steps):
            x = torch.randn(256, 6, generator=torch.Generator().manual_seed(step))
            loss = F.cross_entropy(forward(x), (x[:, :CLASSES]).argmax(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return run.fixes


@pytest.mark.parametrize("fault", NAMES)
@pytest.mark.parametrize("form", [lambda made: nn.Sequential(*made), Tree], ids=["sequential", "tree"])
def test_in_modules_it_does_what_the_fix_did(form, fault):
    model, other = form(layers(fault)), form(layers(fault))
    fixes = mended(model, model.parameters())
    assert NAMES[fault] <= {fix.name for fix in fixes}
    for fix in fixes:
        exec(compile(fix.snippet, "fixes.py", "exec"), {"torch": torch, "nn": nn, "model": other})
    if fault not in ("alike", "normed"):  # drawn anew; dropped here and zeroed there
        for now, pasted in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(pasted, now, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", ["unscaled", "dead", "alike"])
def test_raw_tensors_keep_the_names_of_their_variables(fault):
    forward, tensors = raw(layers(fault))
    _, others = raw(layers(fault))
    fixes = mended(forward, tensors)
    assert NAMES[fault] <= {fix.name for fix in fixes}
    names = dict(zip(("w1", "b1", "w2", "b2"), others, strict=True))
    for fix in fixes:
        exec(compile(fix.snippet, "fixes.py", "exec"), {"torch": torch, **names})
    if fault != "alike":
        for now, pasted in zip(tensors, others, strict=True):
            torch.testing.assert_close(pasted, now, rtol=1e-4, atol=1e-5)


def test_modules_by_themselves_are_called_after_their_class():
    first, _, last = layers("unscaled")
    fixes = mended(lambda x: last(torch.tanh(first(x))), [*first.parameters(), *last.parameters()])
    linear, linear_2 = layers("unscaled")[::2]
    for fix in fixes:
        exec(compile(fix.snippet, "fixes.py", "exec"), {"linear": linear, "linear_2": linear_2})
    torch.testing.assert_close(linear.weight, first.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(linear_2.weight, last.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("0.weight", 'model.get_parameter("0.weight")'),
        ("positions", 'model.get_parameter("positions")'),
        ("W.weight", 'model.get_parameter("W.weight")'),
        ("Critic.fc.weight", 'critic.get_parameter("fc.weight")'),
        ("QNetwork-2.0.bias", 'qnetwork_2.get_parameter("0.bias")'),
    ],
)
def test_names_of_modules(name, code):
    assert snippet.parameter(Trace(), name) == code
