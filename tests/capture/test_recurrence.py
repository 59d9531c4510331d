"""How recurrences pass gradients back, against a Jacobian and against hooks."""

import math

import pytest
import torch
from torch import nn

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.trace import Kind

from .watching import leaf, traced

X = torch.randn(5, 20, 3, generator=torch.Generator().manual_seed(2))  # sequences, time, features
NAMES = ("state_kept", "state_steps", "state_growth")


def kept(trace):
    (layer,) = trace.of_kind(Kind.RECURRENT)
    return [trace.scalar(layer, name) for name in NAMES]


def by_hand(layer, x, sequences=2):
    """Multiply a fixed direction with the whole Jacobian of the last state by the first."""
    states = 2 if isinstance(layer, nn.LSTM) else 1
    directions = 2 if layer.bidirectional else 1
    lengths = []
    for n in range(min(sequences, len(x))):

        def last(*state, n=n):
            out = layer(x[n : n + 1], state if states == 2 else state[0])[1]
            return (out[0] if states == 2 else out)[-directions:]

        zeros = tuple(torch.zeros(layer.num_layers * directions, 1, layer.hidden_size) for _ in range(states))
        jacobians = torch.autograd.functional.jacobian(last, zeros)
        direction = torch.cos(1.7 * torch.arange(layer.hidden_size)).expand(directions, 1, -1)
        parts = [torch.einsum("abc,abcdef->def", direction, jacobian) for jacobian in jacobians]
        lengths.append(math.sqrt(sum(float(p.square().sum()) for p in parts) / float(direction.square().sum())))
    return sum(lengths) / len(lengths)


LAYERS = {
    "rnn": nn.RNN(3, 6, batch_first=True),
    "relu": nn.RNN(3, 6, nonlinearity="relu", batch_first=True),
    "gru": nn.GRU(3, 6, 2, batch_first=True),
    "lstm": nn.LSTM(3, 6, batch_first=True),
    "both directions": nn.LSTM(3, 6, 2, batch_first=True, bidirectional=True),
}


@pytest.mark.parametrize("form", LAYERS)
def test_fused_layers(form):
    layer = LAYERS[form]
    share, steps, growth = kept(traced(lambda: layer(X)[0].sum().backward()))
    expected = by_hand(layer, X)
    assert steps == 20
    assert share == pytest.approx(expected, rel=1e-3)
    assert growth == pytest.approx(expected ** (1 / 20), rel=1e-3)


def test_time_first():
    layer = nn.GRU(3, 6)
    layer.load_state_dict(nn.GRU(3, 6, batch_first=True).state_dict())
    same = nn.GRU(3, 6, batch_first=True)
    same.load_state_dict(layer.state_dict())
    assert kept(traced(lambda: layer(X.transpose(0, 1))[0].sum().backward()))[0] == pytest.approx(by_hand(same, X))


def test_packed_sequences_are_judged_by_the_longest():
    layer = LAYERS["lstm"]

    def step():
        packed = nn.utils.rnn.pack_padded_sequence(X, [20, 18, 9, 9, 1], batch_first=True)
        layer(packed)[0].data.sum().backward()

    assert kept(traced(step))[:2] == pytest.approx([by_hand(layer, X, sequences=1), 20])


def test_long_sequences_are_cut():
    layer = nn.GRU(1, 2, batch_first=True)
    x = torch.randn(1, 300, 1)
    assert kept(traced(lambda: layer(x)[0].sum().backward()))[1] == 256


def test_short_sequences_are_left_alone():
    assert kept(traced(lambda: LAYERS["gru"](X[:, :15])[0].sum().backward())) == [None] * 3


def test_rarely():
    layer = nn.RNN(3, 6, batch_first=True)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)
    with Session(Schedule(every=1)) as session:
        for _ in range(45):
            optimizer.zero_grad()
            layer(X)[0].square().mean().backward()
            optimizer.step()
    (site,) = session.trace.of_kind(Kind.RECURRENT)
    assert [step for step, _ in session.trace.scalars(site, "state_kept")] == [0, 5, 10, 20, 40]


def test_no_trace_in_the_program():
    """Dropout draws the same numbers, and gradients are those of the program alone."""
    layer = nn.LSTM(3, 6, 2, batch_first=True, dropout=0.5)

    def gradients():
        torch.manual_seed(1)
        layer.zero_grad()
        layer(X)[0].square().sum().backward()
        return [p.grad.clone() for p in layer.parameters()], torch.rand(1)

    alone, drawn = gradients()
    with Session() as session:
        watched, drawn_then = gradients()
    assert session.trace.facts.internal_error is None
    assert kept(session.trace)[0] is not None
    assert torch.equal(drawn, drawn_then)
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))


class TestLoops:
    w, u = leaf(6, 6, scale=0.4), leaf(3, 6)

    def test_a_module_that_is_called_each_time_step(self):
        recall = nn.Linear(6, 6)
        seen: list[float] = []
        outputs: list[float] = []

        def step():
            seen.clear()
            outputs.clear()
            h = torch.zeros(5, 6)
            for x in X.unbind(1):
                back = recall(h)
                outputs.append(float(back.detach().square().mean().sqrt()))
                back.register_hook(lambda grad: seen.append(float(grad.square().mean().sqrt())))
                h = torch.tanh(x @ self.u + back)
            h.square().sum().backward()

        trace = traced(step)
        site = next(s for s in trace.of_kind(Kind.WEIGHT_LAYER) if s.op == "linear")
        ((_, gradients),) = trace.vectors(site, "gradient_by_call")
        ((_, values),) = trace.vectors(site, "output_by_call")
        assert gradients.tolist() == pytest.approx(seen[::-1], rel=1e-4)
        assert values.tolist() == pytest.approx(outputs, rel=1e-4)

    def test_a_cell(self):
        cell = nn.GRUCell(3, 6)

        def step():
            h = torch.zeros(5, 6)
            for x in X.unbind(1):
                h = cell(x, h)
            h.sum().backward()

        trace = traced(step)
        (site,) = trace.of_kind(Kind.RECURRENT)
        ((_, gradients),) = trace.vectors(site, "gradient_by_call")
        assert len(gradients) == 20
        assert gradients[-1] == 1.0

    def test_a_layer_that_is_called_a_few_times(self):
        layer = nn.Linear(3, 3)

        def step():
            sum(layer(X[:, t]).sum() for t in range(15)).backward()

        trace = traced(step)
        (site,) = trace.of_kind(Kind.WEIGHT_LAYER)
        assert trace.scalar(site, "calls") == 15
        assert trace.vectors(site, "gradient_by_call") == []
