"""Recurrences of every form, made by hand."""

import numpy as np

from unstuck.trace import Kind, Role

from ..helpers import TraceBuilder


def updated(b, weight, ratio=1e-3):
    """Let each update be that part of a weight of ones."""
    b.record(weight, Role.UPDATE, np.full((2, 2), ratio))


def fused(growth, length=64, steps=(0, 5, 10, 20, 40), run=range(200)):
    """A fused layer whose state's gradient changes by `growth` a time step."""
    b = TraceBuilder(run)
    site = b.site(Kind.RECURRENT, "lstm", "memory")
    updated(b, b.parameter("memory.weight", site, "weight", np.ones((2, 2))))
    for name, value in (("state_growth", growth), ("state_steps", length), ("state_kept", growth**length)):
        b.scalar(site, name, value, steps)
    return b, site


def gradients(growth, length):
    """Gradients in order of execution: the last is 1, each earlier one `growth` times the next."""
    return growth ** np.arange(length - 1.0, -1.0, -1.0)


def module_loop(by_call, run=range(200), *, circle=True, kind=Kind.WEIGHT_LAYER):
    """A layer that is called once each time step, with these gradients at its outputs."""
    b = TraceBuilder(run)
    site = b.site(kind, "linear", "cell.recall")
    updated(b, b.parameter("cell.recall.weight", site, "weight", np.ones((2, 2))))
    tanh = b.site(Kind.ACTIVATION, "tanh", "cell", after=site)
    if circle:
        b.edge(tanh, site)
    for step in range(5):
        b.trace.add_vector(step, site.index, "gradient_by_call", by_call)
    return b, site


def line_loop(by_call, run=range(200), *, circle=True):
    """A product on one line, a site for each time step, with these gradients at its outputs."""
    b = TraceBuilder(run)
    first, before = None, None
    for ordinal, value in enumerate(by_call):
        site = b.site(Kind.WEIGHT_LAYER, "matmul", far=before if circle and before else (), ordinal=ordinal)
        if first is None:
            first = site
            updated(b, b.parameter("w", site, "weight", np.ones((2, 2))))
        site.parameters, site.location = first.parameters, first.location
        b.record(site, Role.OUTPUT_GRADIENT, np.full((3,), value), range(5))
        before = site
    return b, first
