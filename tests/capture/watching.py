"""A small batch, leaves to train, and a pass under watch."""

import torch

from unstuck.capture.session import Session

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(8, 4, generator=GENERATOR)
Y = torch.randint(0, 3, (8,), generator=GENERATOR)


def traced(step, times=1):
    """Watch `step()`, which makes a forward and backward pass, and return the trace."""
    with Session() as session:
        for _ in range(times):
            step()
    assert session.trace.facts.internal_error is None
    return session.trace


def ops(trace, *kinds):
    return [site.op for site in trace.of_kind(*kinds)]


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))) * scale).requires_grad_()
