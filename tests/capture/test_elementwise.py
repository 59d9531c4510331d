"""Parameters that only element-wise calls use: used, and where."""

import torch
import torch.nn.functional as F
from torch import nn

from unstuck.trace import Kind

from .watching import X, traced


class Turn(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.angle, self.layer, self.cut = nn.Parameter(torch.tensor(0.3)), nn.Linear(2, 1), cut

    def forward(self, x):
        c, s = self.angle.cos(), self.angle.sin()
        return self.layer(x[:, :2] @ self.cut(c, -s, s))


TURNED = Turn.forward.__code__.co_firstlineno + 2


def values(c, minus, s):
    return torch.tensor([[c.item(), minus.item()], [s.item(), c.item()]])


def stack(c, minus, s):
    return torch.stack([c, minus, s, c]).view(2, 2)


def angle_of(cut, step_of=None):
    net = Turn(cut)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        F.mse_loss(net(X), X[:, :1]).backward()
        optimizer.step()

    trace = traced(step_of(net, step) if step_of else step, times=5)
    (site,) = [site for site in trace.of_kind(Kind.PARAMETER) if site.path == "angle"]
    return trace, site


def test_a_gradient_that_never_comes_is_noticed_from_the_second_step_on():
    trace, site = angle_of(values)
    assert trace.scalars(site, "gradient_missing") == [(step, 1.0) for step in range(1, 5)]
    assert site.owner is None


def test_the_place_is_the_last_call_that_something_made_of_it_went_into():
    _, site = angle_of(values)
    assert site.location.line == TURNED


def test_a_gradient_that_comes_is_noticed_too():
    trace, site = angle_of(stack)
    assert {missing for _, missing in trace.scalars(site, "gradient_missing")} == {0.0}


def test_what_no_gradient_is_recorded_for_is_no_use():
    def without(c, minus, s):
        return torch.eye(2)

    class Idle(Turn):
        def forward(self, x):
            with torch.no_grad():
                self.angle.cos()
            return self.layer(x[:, :2])

    net = Idle(without)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        F.mse_loss(net(X), X[:, :1]).backward()
        optimizer.step()

    trace = traced(step, times=5)
    assert not any(trace.scalars(site, "gradient_missing") for site in trace.sites if site.path == "angle")


def test_a_parameter_of_a_layer_keeps_the_layers_place():
    def scaled(net, step):
        def both():
            net.layer.weight.square()  # a penalty that is not used
            step()

        return both

    trace, _ = angle_of(stack, scaled)
    (weight,) = [site for site in trace.of_kind(Kind.PARAMETER) if site.path == "layer.weight"]
    assert weight.location == trace.sites[weight.owner].location


def test_a_norm_that_is_only_looked_at_is_no_use():
    def logged(net, step):
        def both():
            net.angle.norm()
            net.angle.detach().clone()
            step()

        return both

    class Free(Turn):
        def forward(self, x):
            return self.layer(x[:, :2])

    net = Free(stack)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        F.mse_loss(net(X), X[:, :1]).backward()
        optimizer.step()

    trace = traced(logged(net, step), times=5)
    assert not any(trace.scalars(site, "gradient_missing") for site in trace.sites if site.path == "angle")
