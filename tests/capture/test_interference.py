"""Watching changes nothing: random small networks and training loops, with and without."""

from __future__ import annotations

import gc
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import unstuck
from unstuck.capture.session import Session

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.ELU, nn.SiLU, lambda: nn.ReLU(inplace=True), nn.LeakyReLU]
NORMS = [None, nn.BatchNorm1d, nn.LayerNorm]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=2),
    "by hand": None,
}
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(1))

plans = st.fixed_dictionaries(
    {
        "depth": st.integers(1, 4),
        "width": st.integers(2, 9),
        "activation": st.sampled_from(ACTIVATIONS),
        "norm": st.sampled_from(NORMS),
        "dropout": st.sampled_from([0.0, 0.3]),
        "reuse": st.booleans(),
        "accumulate": st.integers(1, 3),
        "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
        "evaluate": st.booleans(),
        "every": st.sampled_from([None, 1, 2, 5]),
        "seed": st.integers(0, 99),
    }
)


class Net(nn.Module):
    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        width = plan["width"]
        self.first = nn.Linear(6, width)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(plan["depth"])])
        self.norms = nn.ModuleList([plan["norm"](width) if plan["norm"] else nn.Identity() for _ in self.layers])
        self.activation = plan["activation"]()
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        h = self.activation(self.first(x))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = self.activation(norm(layer(h)))
            if self.plan["reuse"]:
                h = h + self.activation(layer(h))
        return self.head(F.dropout(h, self.plan["dropout"], self.training))


def train(plan, steps=14):
    """Train by the plan; return losses, parameters and buffers, and the states of both random generators."""
    torch.manual_seed(plan["seed"])
    random.seed(plan["seed"])
    model = Net(plan)
    make = OPTIMIZERS[plan["optimizer"]]
    optimizer = make(model.parameters()) if make else None
    losses = []

    def pass_():
        for parameter in model.parameters():
            parameter.grad = None
        for rows in torch.randperm(24).chunk(plan["accumulate"]):
            loss = F.cross_entropy(model(X[rows]), Y[rows]) / plan["accumulate"]
            loss.backward()
            losses.append(loss.item())
        return loss

    for _ in range(steps):
        if plan["optimizer"] == "lbfgs":
            optimizer.step(pass_)
        else:
            pass_()
            if optimizer is not None:
                optimizer.step()
            else:
                for parameter in model.parameters():
                    parameter.data -= 0.05 * parameter.grad
        if plan["evaluate"]:
            model.eval()
            with torch.no_grad():
                losses.append(F.cross_entropy(model(X), Y).item())
            model.train()
    return losses, list(model.state_dict().values()), torch.get_rng_state(), random.getstate()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_losses_parameters_and_random_states_are_bit_identical(plan):
    losses, values, torch_state, python_state = train(plan)
    with unstuck.watch(every=plan["every"]) as run:
        watched = train(plan)
    assert run.session.trace.facts.internal_error is None
    assert watched[0] == losses or str(watched[0]) == str(losses)  # NaN is not equal to itself
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(watched[1], values, strict=True))
    assert torch.equal(watched[2], torch_state)
    assert watched[3] == python_state
    assert run.session.steps == 14


def live_tensor_bytes():
    gc.collect()
    held = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor) and t.layout is torch.strided]
    return sum(t.untyped_storage().nbytes() for t in held if not torch.nn.parameter.is_lazy(t))


@pytest.mark.parametrize("every", [1, None])
def test_memory_in_tensors_is_flat_over_a_thousand_steps(every):
    from unstuck.capture.schedule import Schedule

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.BatchNorm1d(64), nn.Tanh(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    sizes = []
    with Session(Schedule(every)) as session:
        for step in range(1_000):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
            if step in (200, 999):
                sizes.append(live_tensor_bytes())
    assert sizes[1] <= 1.01 * sizes[0]
    assert session.trace.nbytes <= 64 << 20
