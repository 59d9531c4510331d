"""Builds traces from numpy arrays, and states what a rule has to say about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from unstuck.findings import Finding, Severity
from unstuck.rules.rule import Rule
from unstuck.stats.reference import summarise
from unstuck.trace import Edge, Kind, Location, LossCall, Role, Site, Trace

Array = np.ndarray[Any, Any]
PerStep = Array | Callable[[int], Array] | Mapping[int, Array]

FUNCTIONS = {  # op -> interval, gain, bounded
    "tanh": ((-2.0845, 2.0845), 5 / 3, True),
    "sigmoid": ((-4.169, 4.169), 1.0, True),
    "relu": ((0.0, np.inf), 2**0.5, False),
    "hardtanh": ((-1.0, 1.0), 1.392, True),
    "softsign": ((-3.0825, 3.0825), 2.337, True),
    "gelu": ((-2.1647, np.inf), 1.533, False),
}


def normal(std: float, *shape: int, mean: float = 0.0, seed: int = 0) -> Array:
    """Return normal numbers whose mean and standard deviation are exactly as given."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return (x - x.mean()) / (x.std() or 1.0) * std + mean


class TraceBuilder:
    """A trace made by hand: sites in the order of the calls, edges from `after` (direct) and `far` (not)."""

    def __init__(self, steps: Iterable[int] = range(10)) -> None:
        self.trace = Trace()
        self.steps = list(steps)
        for step in self.steps:
            self.trace.add_step(step)
            self.trace.objective[step] = 1.0
        self.trace.facts.backward_calls = len(self.steps)

    # -- sites -----------------------------------------------------------------------------------------------------

    def site(self, kind: Kind, op: str, path: str = "", *, after: Any = (), far: Any = (), **fields: Any) -> Site:
        index = len(self.trace.sites)
        site = Site(index, kind, op, path, Location("/home/user/train.py", index + 1), index, **fields)
        self.trace.sites.append(site)
        for producers, direct in ((after, True), (far, False)):
            for producer in [producers] if isinstance(producers, Site) else producers:
                self.edge(producer, site, direct=direct)
        return site

    def edge(self, producer: Site, consumer: Site, *, direct: bool = True) -> None:
        self.trace.edges.add(Edge(producer.index, consumer.index, direct))

    def layer(
        self,
        path: str = "fc",
        *,
        weight: PerStep | None = None,
        bias: PerStep | None = None,
        op: str = "linear",
        fan_in: int | None = None,
        output: PerStep | None = None,
        kind: Kind = Kind.WEIGHT_LAYER,
        **edges: Any,
    ) -> Site:
        """Add a weight layer with a weight of shape (units, fan_in) and perhaps a bias."""
        site = self.site(kind, op, path, fan_in=fan_in, **edges)
        for slot, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                self.parameter(f"{path}.{slot}", site, slot, value)
        if output is not None:
            self.record(site, Role.OUTPUT, output)
        return site

    def parameter(self, path: str, owner: Site | None, slot: str, value: PerStep | None = None) -> Site:
        shape = () if value is None else self._at(value, self.steps[0]).shape
        site = self.site(Kind.PARAMETER, "parameter", path, slot=slot, shape=shape)
        if owner is not None:
            site.owner = owner.index
            owner.parameters = (*owner.parameters, site.index)
            if slot == "weight" and len(shape) > 1 and owner.fan_in is None:
                owner.fan_in = shape[1]
        if value is not None:
            self.record(site, Role.VALUE, value)
        return site

    def activation(self, op: str = "tanh", path: str = "", *, pre: PerStep | None = None, **edges: Any) -> Site:
        """Add an activation function with pre-activations of shape (elements, units)."""
        interval, gain, bounded = FUNCTIONS[op]
        site = self.site(Kind.ACTIVATION, op, path, interval=interval, gain=gain, bounded=bounded, **edges)
        if pre is not None:
            self.record(site, Role.INPUT, pre)
        return site

    def loss(
        self, op: str = "cross_entropy", *, value: float = 1.0, baseline: float | None = None, **edges: Any
    ) -> Site:
        """Add a loss that has the same value and baseline at every step."""
        site = self.site(Kind.LOSS, op, **edges)
        self.trace.loss_calls += [LossCall(step, site.index, value, baseline) for step in self.steps]
        return site

    # -- numbers ---------------------------------------------------------------------------------------------------

    def record(self, site: Site, role: Role, values: PerStep, steps: Iterable[int] | None = None) -> None:
        """Summarise one array per step; activations with their units."""
        units = -1 if site.kind is Kind.ACTIVATION and role is Role.INPUT else None
        for step in self.steps if steps is None else steps:
            if not isinstance(values, Mapping) or step in values:
                x = torch.as_tensor(self._at(values, step))
                self.trace.add(step, site.index, role, summarise(x, unit_dim=units, interval=site.interval))

    def scalar(self, site: Site, name: str, value: float, steps: Iterable[int] = (0,)) -> None:
        for step in steps:
            self.trace.add_scalar(step, site.index, name, value)

    def _at(self, values: PerStep, step: int) -> Array:
        if callable(values):
            return values(step)
        return values[step] if isinstance(values, Mapping) else values


def findings(rule: type[Rule], trace: Trace) -> list[Finding]:
    """Run a rule that lacks nothing."""
    instance = rule()
    assert instance.lacking(trace) is None
    return list(instance.detect(trace))


def check_silent(rule: type[Rule], trace: Trace) -> None:
    """The rule can judge the trace, and finds nothing."""
    assert [finding.message for finding in findings(rule, trace)] == []


def check_fires(
    rule: type[Rule], trace: Trace, *, at: Site | None, message: str | None = None, severity: Severity | None = None
) -> Finding:
    """The rule finds one fault, at this site."""
    found = findings(rule, trace)
    assert [finding.site_index for finding in found] == [at.index if at else None]
    finding = found[0]
    assert (finding.code, finding.name, finding.explains) == (rule.code, rule.name, rule.explains)
    assert finding.location == (at.location if at else None)
    if message is not None:
        assert finding.message == message
    assert severity is None or finding.severity is severity
    return finding


def check_lacks(rule: type[Rule], trace: Trace, what: str) -> None:
    """The rule says that it cannot judge, and what it would need."""
    assert rule().lacking(trace) == what


def forget(trace: Trace, site: Site, role: Role, step: int | None = None) -> None:
    """Make as if a site had not been measured in a role, at one step or at all."""
    series = trace._series(site, role)
    for known in [*series] if step is None else [step]:
        del series[known]
