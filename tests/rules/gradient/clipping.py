"""Traces with a clipping call."""

from unstuck.trace import Kind

from ..helpers import TraceBuilder

STEPS = [*range(10), *range(10, 100, 10), 99]


def clipped(norm, bound=1.0, scale=1.0, steps=STEPS, optimizer=None):
    """A run whose gradients of `norm` (one, or one per step) are clipped to `bound`."""
    b = TraceBuilder(steps)
    site = b.site(Kind.CLIPPING, "clip_grad_norm_")
    for step in b.steps:
        value = norm(step) if callable(norm) else norm
        numbers = {"clip_coefficient": min(1.0, bound / value), "clip_norm": value, "clip_bound": bound}
        for name, number in (numbers | {"clip_scale": scale}).items():
            b.trace.add_scalar(step, site.index, name, number)
    if optimizer:
        b.site(Kind.OPTIMIZER, optimizer)
    return b, site
