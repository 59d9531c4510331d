"""Activation checkpointing: layers are seen once, with the numbers and gradients worked out without it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint, checkpoint_sequential

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind, Role

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randint(0, 3, (16,), generator=torch.Generator().manual_seed(1))
REENTRANT = pytest.mark.parametrize("reentrant", [True, False])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return x + torch.tanh(self.fc(x))


class Net(nn.Module):
    """Two blocks and a functional activation; `reentrant` None is the same network without checkpoints."""

    def __init__(self, reentrant):
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.last = nn.Linear(8, 3)

    def through(self, function, x):
        if self.reentrant is None:
            return function(x)
        return checkpoint(function, x, use_reentrant=self.reentrant)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = self.through(block, x)
        x = self.through(lambda h: F.gelu(h, approximate="tanh"), x)
        return self.last(x)


def train(reentrant, steps=3, schedule=None, watch=True, make=Net):
    torch.manual_seed(0)
    net = make(reentrant).double()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses = []
    session = Session(schedule)
    if watch:
        session.start()
    try:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(X), Y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        session.stop()
    assert session.trace.facts.internal_error is None
    return session, losses, net


def numbers(session, steps=(0, 1, 2)):
    """Everything recorded that does not depend on where it was recorded: by site and role, count and moments."""
    trace = session.trace
    found = {}
    for site in trace.sites:
        for role in Role:
            for step in steps:
                summary = trace.summary(site, role, step)
                if summary is not None:
                    key = (site.path, site.op, site.ordinal, role, step)
                    found[key] = (summary.count, pytest.approx(summary.total), pytest.approx(summary.norm))
    return found


@REENTRANT
def test_sites_numbers_and_edges_are_those_without_checkpoints(reentrant):
    plain, plain_losses, _ = train(None)
    session, losses, _ = train(reentrant)
    assert losses == plain_losses
    assert numbers(session) == numbers(plain)
    assert [(s.path, s.op) for s in session.trace.sites] == [(s.path, s.op) for s in plain.trace.sites]
    assert session.trace.edges == plain.trace.edges
    assert session.trace.facts.backward_calls == 3
    assert session.steps == 3


@REENTRANT
def test_numbers_of_one_step_by_hand(reentrant):
    torch.manual_seed(0)
    net = Net(None).double()
    h0 = net.first(X)
    pre = net.blocks[0].fc(h0)
    act = torch.tanh(pre)
    h1 = h0 + act
    h2 = h1 + torch.tanh(net.blocks[1].fc(h1))
    gelu = F.gelu(h2, approximate="tanh")
    for tensor in (pre, act, gelu):
        tensor.retain_grad()
    F.cross_entropy(net.last(gelu), Y).backward()

    trace = train(reentrant, steps=1)[0].trace
    sites = {(s.path, s.op): s for s in trace.sites}
    assert [s.path for s in trace.of_kind(Kind.WEIGHT_LAYER)] == ["first", "blocks.0.fc", "blocks.1.fc", "last"]
    for key, output in {("blocks.0.fc", "linear"): pre, ("blocks.0", "tanh"): act, ("", "gelu"): gelu}.items():
        gradient = trace.summary(sites[key], Role.OUTPUT_GRADIENT, 0)
        assert gradient.count == 16 * 8
        assert gradient.norm == pytest.approx(output.grad.norm().item())
        assert gradient.total == pytest.approx(output.grad.sum().item())
    for key, role, tensor in [
        (("blocks.0.fc", "linear"), Role.OUTPUT, pre),
        (("blocks.0", "tanh"), Role.INPUT, pre),
        (("", "gelu"), Role.INPUT, h2),
    ]:
        summary = trace.summary(sites[key], role, 0)
        assert summary.count == 16 * 8
        assert summary.norm == pytest.approx(tensor.norm().item())
        assert summary.total == pytest.approx(tensor.sum().item())
    weight = trace.summary(sites["blocks.0.fc.weight", "parameter"], Role.GRADIENT, 0)
    assert weight.norm == pytest.approx(net.blocks[0].fc.weight.grad.norm().item())


class Nested(Net):
    """A checkpoint within a checkpoint."""

    def forward(self, x):
        def both(h):
            return self.through(self.blocks[1], self.through(self.blocks[0], h))

        return self.last(F.relu(self.through(both, self.first(x))))


class Shared(Net):
    """The same block called three times, each in a checkpoint of its own."""

    def forward(self, x):
        x = self.first(x)
        for _ in range(3):
            x = self.through(self.blocks[0], x)
        return self.last(x)


class Peeking(Net):
    """A checkpointed function that looks at something under `no_grad` before it goes on."""

    def forward(self, x):
        def look_and_go(h):
            with torch.no_grad():
                h.abs().max()
            return self.blocks[1](self.blocks[0](h))

        return self.last(self.through(look_and_go, self.first(x)))


class Sequential(Net):
    """torch's own helper for chains of modules."""

    def forward(self, x):
        x = self.first(x)
        chain = nn.Sequential(*self.blocks)
        if self.reentrant is None:
            return self.last(chain(x))
        return self.last(checkpoint_sequential(list(self.blocks), 2, x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, of the inner one of two
@pytest.mark.parametrize("make", [Nested, Shared, Peeking])
@REENTRANT
def test_other_shapes(make, reentrant):
    plain, plain_losses, _ = train(None, make=make)
    session, losses, _ = train(reentrant, make=make)
    assert losses == plain_losses
    assert numbers(session) == numbers(plain)


@REENTRANT
def test_checkpoint_sequential_sees_each_layer_once(reentrant):
    trace = train(reentrant, make=Sequential)[0].trace
    layers = [s for s in trace.of_kind(Kind.WEIGHT_LAYER) if s.path.endswith("fc")]
    assert len(layers) == 2
    for layer in layers:
        assert trace.summary(layer, Role.OUTPUT, 0).count == 16 * 8
        assert trace.summary(layer, Role.OUTPUT_GRADIENT, 0).count == 16 * 8


@REENTRANT
def test_dropout_and_random_numbers(reentrant):
    class Dropping(Net):
        def forward(self, x):
            return self.last(self.through(lambda h: F.dropout(torch.tanh(self.blocks[0](h)), 0.3), self.first(x)))

    _, bare, expected = train(reentrant, make=Dropping, watch=False)
    state = torch.get_rng_state()
    _, watched, got = train(reentrant, make=Dropping)
    assert watched == bare
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), got.parameters(), strict=True))


@REENTRANT
@pytest.mark.parametrize("every", [1, 7, 1000])
def test_losses_are_bit_identical(reentrant, every):
    _, bare, expected = train(reentrant, steps=30, watch=False)
    session, watched, got = train(reentrant, steps=30, schedule=Schedule(every=every))
    assert watched == bare
    assert session.steps == 30
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), got.parameters(), strict=True))


@REENTRANT
def test_custom_functions_are_counted_once(reentrant):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    class Custom(Net):
        def forward(self, x):
            return self.last(self.through(lambda h: Double.apply(self.blocks[0](h)), self.first(x)))

    plain = train(None, make=Custom)[0]
    session = train(reentrant, make=Custom)[0]
    assert [(s.path, s.op) for s in session.trace.sites] == [(s.path, s.op) for s in plain.trace.sites]
    assert numbers(session) == numbers(plain)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_evaluation_is_left_alone():
    net = Net(True).double()
    with Session() as session, torch.no_grad():
        net(X)
    assert session.trace.sites == []


def test_everything_is_undone():
    before = CheckpointFunction.__dict__["forward"]
    with Session():
        assert CheckpointFunction.__dict__["forward"] is not before
    assert CheckpointFunction.__dict__["forward"] is before
    train(True, steps=12)
    assert CheckpointFunction.__dict__["forward"] is before
