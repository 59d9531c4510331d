"""Clipping calls: their place, the norm they found, and AMP's scale."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad, clip_grad_norm_

from unstuck.capture.session import Session
from unstuck.trace import Kind

from .watching import X, Y

ORIGINAL = clip_grad._clip_grads_with_norm_, nn.utils.clip_grads_with_norm_, torch.amp.GradScaler.unscale_


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def clips(trace):
    names = ("clip_norm", "clip_bound", "clip_coefficient", "clip_scale")
    (site,) = trace.of_kind(Kind.CLIPPING)
    return site, {name: dict(trace.scalars(site, name)) for name in names}


def with_optimizer(bound, steps, *, clip=clip_grad_norm_):
    net, norms = model(), []
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        norms.append(float(clip(net.parameters(), bound)))
        optimizer.step()
    return norms


def by_hand(bound, steps):
    net, norms = model(), []
    for _ in range(steps):
        for p in net.parameters():
            p.grad = None
        F.cross_entropy(net(X), Y).backward()
        norms.append(float(clip_grad_norm_(net.parameters(), bound)))
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
    return norms


@pytest.mark.parametrize("loop", [with_optimizer, by_hand])
def test_each_sampled_step(loop):
    bare = loop(0.1, 60)
    with Session() as session:
        norms = loop(0.1, 60)
    trace = session.trace
    assert trace.facts.internal_error is None
    assert norms == bare
    site, numbers = clips(trace)
    assert [*numbers["clip_norm"]] == trace.steps
    for step, norm in numbers["clip_norm"].items():
        assert norm == pytest.approx(norms[step])
        assert numbers["clip_coefficient"][step] == pytest.approx(min(1.0, 0.1 / (norm + 1e-6)))
        assert (numbers["clip_bound"][step], numbers["clip_scale"][step]) == (0.1, 1.0)
    assert site.location.file == __file__
    assert site.location.function == loop.__name__


def test_in_two_parts():
    def clip(parameters, bound):
        parameters = list(parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        nn.utils.clip_grads_with_norm_(parameters, bound, norm)
        return norm

    with Session() as session:
        norms = with_optimizer(100.0, 3, clip=clip)
    _, numbers = clips(session.trace)
    assert [*numbers["clip_norm"].values()] == pytest.approx(norms)
    assert [*numbers["clip_coefficient"].values()] == [1.0] * 3


def test_of_several_calls_from_one_line_the_mildest_counts():
    def clip(parameters, bound):
        return max(clip_grad_norm_([p], bound) for p in parameters)

    with Session() as session:
        norms = with_optimizer(0.01, 3, clip=clip)
    _, numbers = clips(session.trace)
    assert all(numbers["clip_norm"][step] <= norms[step] for step in range(3))
    assert len(numbers["clip_norm"]) == 3


@pytest.mark.parametrize("unscale", [True, False])
def test_amp(unscale):
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with Session() as session:
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(net(X), Y)).backward()
            if unscale:
                scaler.unscale_(optimizer)
            norm = float(clip_grad_norm_(net.parameters(), 1.0))
            scaler.step(optimizer)
            scaler.update()
    assert session.trace.facts.internal_error is None
    _, numbers = clips(session.trace)
    assert [*numbers["clip_scale"].values()] == [1.0 if unscale else 256.0] * 4
    assert numbers["clip_norm"][3] == pytest.approx(norm)


def test_a_norm_that_is_not_finite_is_left_alone():
    def clip(parameters, bound):
        parameters = list(parameters)
        parameters[0].grad.fill_(torch.inf)
        return clip_grad_norm_(parameters, bound)

    with Session() as session:
        with_optimizer(1.0, 2, clip=clip)
    assert session.trace.facts.internal_error is None
    assert session.trace.of_kind(Kind.CLIPPING) == []


def test_everything_is_put_back():
    with Session():
        assert clip_grad._clip_grads_with_norm_ is not ORIGINAL[0]
        with_optimizer(1.0, 12)
    now = clip_grad._clip_grads_with_norm_, nn.utils.clip_grads_with_norm_, torch.amp.GradScaler.unscale_
    assert now == ORIGINAL
