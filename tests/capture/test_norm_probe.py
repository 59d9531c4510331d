"""What is noted of norms and dropout in training passes, against numbers worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.trace import Kind

from .watching import X, Y, traced


def site(trace, kind):
    (found,) = trace.of_kind(kind)
    return found


def step_of(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.0)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    return step


def net(norm, p=0.25):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), nn.Dropout(p), nn.Linear(6, 3))


class TestBatchNorm:
    @pytest.mark.parametrize("momentum", [0.1, 0.4])
    def test_a_batch_beside_the_running_statistics_before_it(self, momentum):
        model = net(nn.BatchNorm1d(6, momentum=momentum))
        before = []

        def step():
            before.append((model[1].running_mean.clone(), model[1].running_var.clone()))
            step_of(model)()

        trace = traced(step, 3)
        norm, x = site(trace, Kind.NORM), model[0](X).detach()
        for k, (mean, var) in enumerate(before):
            shift = (x.mean(0) - mean) / (var + 1e-5).sqrt()
            ratio = (x.var(0, correction=0) + 1e-5) / (var + 1e-5)
            divergence = 0.5 * (ratio - 1 - ratio.log() + shift**2)
            assert trace.scalar(norm, "mean_shift", k) == pytest.approx(shift.abs().median().item(), rel=1e-4)
            assert trace.scalar(norm, "variance_ratio", k) == pytest.approx(
                ratio.log().abs().median().exp().item(), rel=1e-4
            )
            assert trace.scalar(norm, "divergence", k) == pytest.approx(divergence.median().item(), rel=1e-3)
        assert trace.scalar(norm, "momentum", 2) == momentum
        assert trace.scalar(norm, "unit_std", 2) == pytest.approx(x.var(0, correction=0).median().sqrt().item())

    def test_sizes(self):
        conv, norm = nn.Conv1d(1, 5, 1), nn.BatchNorm1d(5)

        def step():
            norm(conv(X.unsqueeze(1))).square().mean().backward()

        trace = traced(step)
        found = site(trace, Kind.NORM)
        assert trace.scalar(found, "samples") == 8
        assert trace.scalar(found, "values_per_unit") == 8 * 4

    def test_units_below_eps(self):
        model = net(nn.BatchNorm1d(6, eps=0.01))
        with torch.no_grad():
            model[0].weight[:2] *= 1e-3
        trace = traced(step_of(model))
        assert trace.scalar(site(trace, Kind.NORM), "collapsed_units") == pytest.approx(2 / 6)

    @pytest.mark.parametrize("root", [True, False])
    @pytest.mark.parametrize("inner", [True, False])
    def test_modes(self, root, inner):
        model = net(nn.BatchNorm1d(6)).train(root)
        model[1].train(inner)
        model[3].train(inner)
        trace = traced(step_of(model))
        for kind in (Kind.NORM, Kind.DROPOUT):
            assert trace.scalar(site(trace, kind), "training") == inner
            assert trace.scalar(site(trace, kind), "root_training") == root
        assert trace.scalar(site(trace, Kind.DROPOUT), "p") == 0.25
        assert (trace.scalar(site(trace, Kind.NORM), "divergence") is not None) == inner

    def test_without_running_statistics(self):
        trace = traced(step_of(net(nn.BatchNorm1d(6, track_running_stats=False))))
        norm = site(trace, Kind.NORM)
        assert trace.scalar(norm, "divergence") is None
        assert trace.scalar(norm, "training") == 1

    def test_of_the_functions_themselves(self):
        w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()

        def step(native):
            mean, var, x = torch.zeros(3), torch.ones(3), X @ w
            args = (None, None, mean, var) if native else (mean, var, None, None)
            rest = (True, 0.1, 1e-5, False) if native else (True,)
            F.cross_entropy((torch.batch_norm if native else F.batch_norm)(x, *args, *rest), Y).backward()

        shifts = []
        for native in (True, False):
            trace = traced(lambda native=native: step(native))
            shifts.append(trace.scalar(site(trace, Kind.NORM), "mean_shift"))
        assert shifts[0] == pytest.approx(shifts[1])
        assert shifts[0] == pytest.approx((X @ w).mean(0).abs().median().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("norm", "size"),
    [
        (nn.LayerNorm(6), 6),
        (nn.RMSNorm(6), 6),
        (nn.GroupNorm(6, 6), 1),
        (nn.GroupNorm(2, 6), 3),
        (nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2), nn.Flatten()), 3),
    ],
)
def test_sizes_of_groups(norm, size):
    trace = traced(step_of(net(norm)))
    assert trace.scalar(site(trace, Kind.NORM), "group_size") == size


def test_dropout_as_a_function():
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for call, p, training in [
        (lambda x: F.dropout(x, 0.2), 0.2, 1),
        (lambda x: F.dropout(x, training=False), 0.5, 0),
        (lambda x: torch.dropout(x, 0.1, True), 0.1, 1),
        (lambda x: torch.dropout(x, p=0.1, train=False), 0.1, 0),
    ]:
        trace = traced(lambda call=call: F.cross_entropy(call(X @ w), Y).backward())
        found = site(trace, Kind.DROPOUT)
        assert (trace.scalar(found, "p"), trace.scalar(found, "training")) == (p, training)
        assert trace.scalar(found, "root_training") == training
