"""Operations at which a gradient breaks; layers in float16."""

import pytest
import torch
import torch.nn.functional as F

from unstuck.capture.session import Session
from unstuck.rules.graph import Graph
from unstuck.trace import Kind, Role

from .watching import X, leaf, traced


def broken(trace, name="made_nonfinite"):
    return [(site.op, trace.scalar(site, name)) for site in trace.of_kind(Kind.OPERATION) if trace.scalars(site, name)]


MASK = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])  # by multiplication, which unlike a ReLU passes NaN back
SINGULAR = {
    "sqrt": lambda x: (x.abs() * MASK).sqrt(),
    "rsqrt": lambda x: torch.where(MASK > 0, (x.abs() * MASK).rsqrt(), 0.0),
    "pow": lambda x: (x.abs() * MASK) ** 0.5,
    "log": lambda x: torch.where(MASK > 0, (x.abs() * MASK).log(), 0.0),
    "div": lambda x: torch.where(MASK > 0, 1.0 / (x.abs() * MASK), 0.0),
    "acos": lambda x: (x.tanh() * MASK + 1 - MASK).acos(),
}


@pytest.mark.parametrize("op", SINGULAR)
def test_a_singular_point_under_a_finite_loss(op):
    w = leaf(4, 6)

    def step():
        SINGULAR[op](X @ w).sum().backward()

    step()
    assert not w.grad.isfinite().all()
    w.grad = None
    trace = traced(step)
    ((found, elements),) = broken(trace)
    (site,) = (site for site in trace.of_kind(Kind.OPERATION) if trace.scalars(site, "reached"))
    assert (found, trace.scalar(site, "reached")) == (op, 1.0)
    assert site.location.line == SINGULAR[op].__code__.co_firstlineno
    assert elements > 0


def test_how_many_elements():
    w = leaf(4, 6)
    ((_, elements),) = broken(traced(lambda: ((X @ w).abs() * MASK).sqrt().sum().backward()))
    assert elements == 2 * len(X)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x.relu() + 1e-3).sqrt(),
        lambda x: x.relu() ** 2,
        lambda x: x.tanh().acos(),
        lambda x: x / 3,
        lambda x: x.relu().detach().sqrt() * x,
        lambda x: x.relu().norm(dim=1),
    ],
)
def test_no_singular_point(function):
    w = leaf(4, 6)
    assert broken(traced(lambda: function(X @ w).sum().backward())) == []


def test_a_gradient_that_is_mended_on_its_way():
    w = leaf(4, 6)
    trace = traced(lambda: (X @ w).relu().sqrt().sum().backward())  # zero where the ReLU is inactive
    assert w.grad.isfinite().all()
    (site,) = trace.of_kind(Kind.OPERATION)
    assert trace.scalar(site, "made_nonfinite") > 0
    assert trace.scalar(site, "reached") == 0.0


STOPPING = {
    "round": lambda x: (4 * x).round(),
    "sign": lambda x: x.sign(),
    "bernoulli": lambda x: x.sigmoid().bernoulli(),
    "normal": lambda x: torch.normal(x, torch.ones_like(x)),
    "grid_sample": lambda x: F.grid_sample(
        torch.ones(8, 1, 3, 3), x.tanh().view(8, 1, 3, 2), mode="nearest", align_corners=True
    ),
}


@pytest.mark.parametrize("op", STOPPING)
def test_an_operation_that_stops_the_gradient(op):
    w = leaf(4, 6)
    trace = traced(lambda: (STOPPING[op](X @ w) ** 2).sum().backward())
    ((found, elements),) = broken(trace, "stopped")
    assert (found, elements) == (op, 48)
    (site,) = trace.of_kind(Kind.OPERATION)
    (layer,) = trace.of_kind(Kind.WEIGHT_LAYER)
    ((_, (before,)),) = trace.vectors(site, "inputs")
    assert layer.index in {int(before)} | Graph(trace).upstream(int(before))
    assert not w.grad.any()


def test_a_straight_through_estimator_stops_nothing():
    w = leaf(4, 6)

    def step():
        x = X @ w
        ((x + (x.round() - x).detach()) ** 2).sum().backward()

    assert broken(traced(step), "stopped") == []


def test_rounding_for_a_count_stops_nothing():
    w = leaf(4, 6)

    def step():
        x = X @ w
        (x.round() == 0).sum()
        x.square().sum().backward()

    assert broken(traced(step), "stopped") == []


class TestPrecision:
    def train(self, scale):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
        with Session() as session:
            for _ in range(3):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.float16):
                    loss = model(X).float().square().mean() * 1e-6
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert session.trace.facts.internal_error is None
        return session.trace

    @pytest.mark.parametrize("scale", [1.0, 2.0**14])
    def test_least_normal_number(self, scale):
        trace = self.train(scale)
        for layer in trace.of_kind(Kind.WEIGHT_LAYER):
            assert trace.scalars(layer, "smallest_normal") == [(step, 2.0**-14 / scale) for step in range(3)]

    def test_unscaled_gradients_do_not_underflow(self):
        layer = self.train(2.0**14).of_kind(Kind.WEIGHT_LAYER)[0]
        scaled = self.train(2.0**14).summary(layer, Role.OUTPUT_GRADIENT)
        plain = self.train(1.0).summary(layer, Role.OUTPUT_GRADIENT)
        assert plain.zeros > scaled.zeros == 0
        assert 0 < scaled.rms < 2.0**-24

    def test_float32_layers_have_none(self):
        w = leaf(4, 3)
        trace = traced(lambda: (X @ w).sum().backward())
        assert trace.scalars(trace.of_kind(Kind.WEIGHT_LAYER)[0], "smallest_normal") == []
