"""A run that has something for every chart: three layers, tanh, batch normalisation, ten steps."""

from __future__ import annotations

from rules.helpers import TraceBuilder, normal
from unstuck.trace import Kind, Role, Trace

UNITS = 6


def trace(steps: int = 10, *, name: str = "net") -> Trace:
    made = TraceBuilder(range(steps))
    before = ()
    for depth in range(3):
        std = 10.0 ** (-depth)
        layer = made.layer(
            f"{name}.{depth}", weight=normal(0.2, UNITS, UNITS), output=normal(std, 20, UNITS), after=before
        )
        made.record(layer, Role.OUTPUT_GRADIENT, normal(std / 100, 20, UNITS))
        weight = made.trace.sites[layer.parameters[0]]
        made.record(weight, Role.GRADIENT, normal(1e-3, UNITS, UNITS))
        made.record(weight, Role.UPDATE, normal(2e-4, UNITS, UNITS))
        pre = normal(1.0, 20, UNITS, seed=depth)
        pre[:, 0] = 9.0  # always saturated
        before = made.activation("tanh", f"{name}.act{depth}", pre=pre, after=layer)
    norm = made.site(Kind.NORM, "batch_norm", f"{name}.bn", after=before)
    for kind, site in (("mean_shift", norm), ("variance_ratio", norm)):
        made.scalar(site, kind, 1.5, steps=range(steps))
    made.loss(value=3.5, baseline=3.3, after=norm)
    for step in range(steps):
        made.trace.objective[step] = 3.5 - 0.1 * step
    return made.trace


def silent() -> Trace:
    """A run of which nothing at all is known."""
    return TraceBuilder([]).trace
