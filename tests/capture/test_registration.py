"""Parameters that a module uses and `parameters()` leaves out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.trace import Kind

from .watching import X, Y, traced


class Blocks(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = blocks
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x) if isinstance(block, nn.Module) else x @ block
        return self.head(x)


def unregistered(module, call=None):
    trace = traced(lambda: F.cross_entropy((call or module)(X), Y).backward())
    return [site.label for site in trace.of_kind(Kind.PARAMETER) if trace.scalar(site, "unregistered")]


def square():
    return nn.Linear(4, 4, bias=False)


@pytest.mark.parametrize(
    "blocks",
    [
        nn.ModuleList([square(), square()]),
        nn.ParameterList([nn.Parameter(torch.eye(4))]),
        [square().eval(), square().eval()],
    ],
    ids=["modules", "parameters", "in evaluation mode"],
)
def test_registered_or_meant(blocks):
    assert unregistered(Blocks(blocks)) == []


def test_modules_in_a_list():
    assert unregistered(Blocks([square(), nn.Sequential(square())])) == ["Linear.weight", "Sequential.0.weight"]


@pytest.mark.parametrize("kind", [nn.Parameter, torch.Tensor.requires_grad_], ids=["parameters", "plain tensors"])
def test_tensors_in_a_list(kind):
    assert len(unregistered(Blocks([kind(torch.eye(4))]))) == 1


def test_a_registered_layer_in_a_list_as_well():
    model = Blocks([])
    model.own = square()
    model.blocks.append(model.own)
    assert unregistered(model) == []


def test_layers_outside_of_modules():
    first, second = square(), nn.Linear(4, 3)
    raw = torch.eye(4).requires_grad_()
    assert unregistered(second, lambda x: second(first(x) @ raw)) == []
