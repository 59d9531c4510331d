"""The record says on which elements of a large parameter updates were measured."""

import math

import pytest
import torch

from unstuck.capture.schedule import Schedule
from unstuck.capture.session import Session
from unstuck.stats.queue import MAX_SAMPLE
from unstuck.trace import Kind, Role


@pytest.mark.parametrize(("size", "stride"), [(MAX_SAMPLE, 1), (2 * MAX_SAMPLE + 5, 3)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_the_stride_is_noted_with_the_parameter(by_hand, size, stride):
    x, w = torch.ones(1, size), torch.ones(size, 1, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.5)
    with Session(Schedule(every=1)) as session:
        for _ in range(2):
            w.grad = None
            (x @ w).sum().backward()
            if by_hand:
                w.data -= 0.5 * w.grad
            else:
                optimizer.step()
    (site,) = [s for s in session.trace.sites if s.kind is Kind.PARAMETER]
    assert site.update_stride == stride
    (_, value), (_, update) = (session.trace.summaries(site, role)[0] for role in (Role.VALUE, Role.UPDATE))
    assert (value.count, update.count) == (size, math.ceil(size / stride))
    assert update.minimum == update.maximum == -0.5


def test_a_sparse_parameter_does_not_end_the_watching():
    sparse, dense = torch.nn.Parameter(torch.eye(3).to_sparse()), torch.nn.Parameter(torch.ones(3, 1))
    optimizer = torch.optim.SGD([sparse, dense], 0.1)
    with Session(Schedule(every=1)) as session:
        for _ in range(3):
            optimizer.zero_grad()
            torch.sparse.mm(sparse, dense).square().sum().backward()
            optimizer.step()
    assert session.trace.facts.internal_error is None
    assert session.steps == 3
