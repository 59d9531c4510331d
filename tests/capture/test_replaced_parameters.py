"""Parameters that take the place of others: an optimizer that has the old ones does not have the new ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

from .watching import X, Y, leaf


class Modules(nn.Module):
    """The new head is a new module."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))

    def replace(self):
        self.head = nn.Linear(6, 3)


class Tensors(nn.Module):
    """The new head is another tensor under the same name."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Parameter(leaf(4, 6).detach()), nn.Parameter(leaf(6, 3).detach())

    def forward(self, x):
        return torch.tanh(x @ self.body) @ self.head

    def replace(self):
        self.head = nn.Parameter(torch.randn(6, 3))


def train(model, *, remake):
    """Replace the head after five steps, with a new optimizer or without; return the trace."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Session() as session:
        for step in range(10):
            if step == 5:
                model.replace()
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if remake else optimizer
            optimizer.zero_grad()
            model.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
    assert session.trace.facts.internal_error is None
    return session.trace


def in_no_optimizer(trace):
    """The (shape, last update) of parameters that had a gradient at the last step and are in no optimizer."""
    known = {index for site in trace.of_kind(Kind.OPTIMIZER) for index in site.parameters}
    return [
        (site.shape, trace.summary(site, Role.UPDATE, 9).rms)
        for site in trace.of_kind(Kind.PARAMETER)
        if site.index not in known and trace.summary(site, Role.GRADIENT, 9).rms > 0
    ]


@pytest.mark.parametrize("network", [Modules, Tensors])
def test_a_new_optimizer_has_the_new_ones(network):
    assert in_no_optimizer(train(network(), remake=True)) == []


@pytest.mark.parametrize(("network", "shapes"), [(Modules, [(3, 6), (3,)]), (Tensors, [(6, 3)])])
def test_an_old_optimizer_does_not(network, shapes):
    assert in_no_optimizer(train(network(), remake=False)) == [(shape, 0.0) for shape in shapes]
